"""Publishes pairs on the Hugging Face hub: parquet with embedded images, and the card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pairuni.pairug.dataset.card import MARK, card, read_stats
from pairuni.pairug.dataset.parquet import SIDES, is_embedded
from pairuni.pairug.dataset.store import read_pairs, write_pairs
from pairuni.records import UGPair

DATA_FILES = "data/*.parquet"
SHARD_BYTES = 400 << 20
"""Bytes of images per file: small enough for the hub's viewer and slow connections."""


class HubApi(Protocol):
    """The methods of huggingface_hub.HfApi that are used."""

    def create_repo(self, repo_id: str, *, private: bool, repo_type: str, exist_ok: bool) -> Any:
        """Create the repository unless it exists."""
        ...

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, repo_type: str, commit_message: str, delete_patterns: str
    ) -> Any:
        """Upload a folder; remote files that match the patterns and are not in the folder are deleted."""
        ...


def push_to_hub(path: Path, repo: str, *, private: bool = False, api: HubApi | None = None) -> str:
    """Push a pair file to the hub as the data set ``repo``; returns its URL.

    The files are prepared in a temporary folder next to the pair file. Parquet files of an earlier push are
    replaced. The token is that of ``hf auth login`` or HF_TOKEN. Raises FileNotFoundError, ValueError for faulty
    pairs and missing images, and OSError for what the hub refuses.
    """
    pairs = read_pairs(path)
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    with tempfile.TemporaryDirectory(prefix=".push-", dir=path.parent) as name:
        folder = Path(name)
        if path.suffix == ".parquet" and is_embedded(path):
            (folder / "data").mkdir()
            shutil.copyfile(path, folder / "data" / "train-00000-of-00001.parquet")
        else:
            shards = _shards(path.parent, pairs)
            for number, shard in enumerate(shards):
                target = folder / "data" / f"train-{number:05}-of-{len(shards):05}.parquet"
                write_pairs(target, shard, embed=path.parent)
        (folder / "README.md").write_text(_card(path, pairs, repo), encoding="utf-8")
        try:
            api.create_repo(repo, private=private, repo_type="dataset", exist_ok=True)
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                repo_type="dataset",
                commit_message=f"{len(pairs):,} pairs",
                delete_patterns=DATA_FILES,
            )
        except OSError:
            raise
        except Exception as error:  # the client lets through errors of its HTTP library, which varies
            raise OSError(f"the push to {repo} failed ({type(error).__name__}: {error})") from error
    return f"https://huggingface.co/datasets/{repo}"


def _shards(folder: Path, pairs: Sequence[UGPair]) -> list[Sequence[UGPair]]:
    """The pairs in order, in shards of about SHARD_BYTES of images."""
    shards: list[Sequence[UGPair]] = []
    begin = size = 0
    for number, pair in enumerate(pairs):
        size += sum(_size(folder / getattr(pair, side).image_path) for side in SIDES)
        if size >= SHARD_BYTES:
            shards.append(pairs[begin : number + 1])
            begin, size = number + 1, 0
    return [*shards, pairs[begin:]] if begin < len(pairs) else shards


def _size(image: Path) -> int:
    return image.stat().st_size if image.is_file() else 0


def _card(path: Path, pairs: Sequence[UGPair], repo: str) -> str:
    """The card next to the file if its owner wrote it, with the hub's files as data files; otherwise a new one."""
    own = path.parent / "README.md"
    if own.is_file() and MARK not in (text := own.read_text(encoding="utf-8")):
        return text.replace(f"path: {json.dumps(path.name)}", f"path: {json.dumps(DATA_FILES)}")
    name = repo.rpartition("/")[2]
    return card(pairs, read_stats(path.parent), data_files=DATA_FILES, name=name)
