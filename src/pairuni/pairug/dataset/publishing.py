"""Publishes pairs on the Hugging Face hub: parquet with embedded images, and the card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pairuni.io.files import PARTIAL, atomic_folder, write_text
from pairuni.io.locks import target_lock
from pairuni.io.publishing import CARD, check_access, check_name, publish_folder
from pairuni.io.text import read_text
from pairuni.pairug.dataset.card import MARK, card, read_stats
from pairuni.pairug.dataset.parquet import is_embedded
from pairuni.pairug.dataset.store import image_fields, read_pairs, write_pairs
from pairuni.records import UGPair

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DATA_FILES = "data/*.parquet"
SHARD_BYTES = 400 << 20
"""Bytes of images per file: small enough for the hub's viewer and slow connections."""


def push_pairs(
    path: Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Push a pair file to the hub as the data set ``repo``; returns its URL.

    The files are prepared in a temporary folder next to the pair file. Parquet files of an earlier push are
    replaced; an interrupted push can be repeated. Raises FileNotFoundError, ValueError for faulty pairs and missing
    images, and as ``publish_folder`` does.
    """
    check_name(repo)
    check_access(api)
    pairs = read_pairs(path)
    with tempfile.TemporaryDirectory(prefix=".push-", suffix=PARTIAL, dir=path.parent) as name:
        _prepare(path, pairs, Path(name), repo)
        return publish_folder(
            Path(name),
            repo,
            kind="dataset",
            message=f"{len(pairs):,} pairs",
            mark=MARK,
            stale=[DATA_FILES],
            private=private,
            revision=revision,
            api=api,
        )


def write_data_set(path: Path, repo: str, out: Path) -> int:
    """Write exactly what ``push_pairs`` uploads to a new folder; returns the number of pairs.

    Raises ValueError if the folder exists and is not empty.
    """
    check_name(repo)
    with target_lock(out, "pairs push"):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} already exists; give another --out, or remove it")
        pairs = read_pairs(path)
        with atomic_folder(out) as folder:
            _prepare(path, pairs, folder, repo)
    return len(pairs)


def shared_card(path: Path, pairs: Sequence[UGPair], name: str) -> str:
    """The card next to the file if its owner wrote it, with the hub's files as data files; otherwise a new one."""
    own = path.parent / CARD
    if own.is_file() and MARK not in (text := read_text(own)):
        return text.replace(f"path: {json.dumps(path.name)}", f"path: {json.dumps(DATA_FILES)}")
    return card(pairs, read_stats(path.parent), data_files=DATA_FILES, name=name)


def _prepare(path: Path, pairs: Sequence[UGPair], folder: Path, repo: str) -> None:
    """Fill an empty folder with the files of the data set."""
    if path.suffix == ".parquet" and is_embedded(path):
        (folder / "data").mkdir()
        shutil.copyfile(path, folder / "data" / "train-00000-of-00001.parquet")
    else:
        shards = _shards(path.parent, pairs)
        for number, shard in enumerate(shards):
            target = folder / "data" / f"train-{number:05}-of-{len(shards):05}.parquet"
            write_pairs(target, shard, embed=path.parent)
    write_text(folder / CARD, shared_card(path, pairs, repo.rpartition("/")[2]))


def _shards(folder: Path, pairs: Sequence[UGPair]) -> list[Sequence[UGPair]]:
    """The pairs in order, in shards of about SHARD_BYTES of images."""
    shards: list[Sequence[UGPair]] = []
    begin = size = 0
    for number, pair in enumerate(pairs):
        size += sum(_size(folder / image_path) for _, image_path in image_fields(pair))
        if size >= SHARD_BYTES:
            shards.append(pairs[begin : number + 1])
            begin, size = number + 1, 0
    return [*shards, pairs[begin:]] if begin < len(pairs) else shards


def _size(image: Path) -> int:
    return image.stat().st_size if image.is_file() else 0
