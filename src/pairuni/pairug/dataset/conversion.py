"""A pair file in another form or place: JSON Lines, parquet by path, parquet with the images inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pairuni.io.files import atomic_write
from pairuni.io.images import ImageError, decode, read_bytes
from pairuni.io.paths import path_fault, written_name_fault
from pairuni.pairug.dataset.parquet import SIDES, is_embedded, iter_rows
from pairuni.pairug.dataset.store import read_pairs, write_pairs
from pairuni.records import UGPair


def convert_pairs(source: Path, target: Path, *, embed: bool = False) -> int:
    """Write the pairs of ``source`` as ``target``, by its suffix; returns their number.

    embed: images go into the parquet file. Else they lie under the target's folder by the same relative
    paths: out of ``source`` if it holds them, copied if they lie elsewhere. Raises FileNotFoundError, and
    ValueError for pairs that cannot be read, images that are missing or do not decode, names that are no
    image's or leave the target's folder, or a file that is in the way.
    """
    if embed and target.suffix != ".parquet":
        raise ValueError(f"{target}: images go into .parquet files only")
    pairs = read_pairs(source)
    inside = source.suffix == ".parquet" and is_embedded(source)
    if inside and embed:
        raise ValueError(f"{source} holds its images already; copy the file")
    if embed:
        write_pairs(target, pairs, embed=source.parent)
        return len(pairs)
    if inside or target.resolve().parent != source.resolve().parent:
        _check_names(source, target.parent, pairs)
        for image_path, data in _embedded(source) if inside else _beside(source, pairs):
            _place(source, target.parent / image_path, data)
    write_pairs(target, pairs)
    return len(pairs)


def _embedded(source: Path) -> Iterator[tuple[str, bytes]]:
    placed = set()
    for number, values, pictures in iter_rows(source, pictures=True):
        assert isinstance(values, dict), "pairs were read before"
        for side, data in pictures.items():
            image_path = values[side]["image_path"]
            if not data:
                raise ValueError(f"{source}, line {number}, field {side}.image: is empty")
            if image_path not in placed:
                placed.add(image_path)
                yield image_path, data


def _beside(source: Path, pairs: list[UGPair]) -> Iterator[tuple[str, bytes]]:
    for image_path in dict.fromkeys(getattr(pair, side).image_path for pair in pairs for side in SIDES):
        try:
            yield image_path, read_bytes(source.parent / image_path)
        except ImageError as error:
            raise ValueError(f"{source}: {image_path!r} {error}") from None


def _check_names(source: Path, folder: Path, pairs: list[UGPair]) -> None:
    """Before anything is written, as the names are the source's."""
    for number, pair in enumerate(pairs, start=1):
        for side in SIDES:
            image_path = getattr(pair, side).image_path
            fault = path_fault(folder, image_path) or written_name_fault(image_path)
            if fault is not None:
                raise ValueError(f"{source}: pair {number}, {side}.image_path: {image_path!r} {fault}")


def _place(source: Path, path: Path, data: bytes) -> None:
    try:
        decode(data)
    except ImageError as error:
        raise ValueError(f"{source}: the image {path.name!r} {error}") from None
    if os.path.lexists(path):
        if _read(path) != data:
            raise ValueError(f"{path} is in the way: another file of this name; choose an empty folder")
        return
    with atomic_write(path) as aside:
        aside.write_bytes(data)


def _read(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except ImageError:
        return None
