"""Converts pair files between JSON Lines, parquet, and parquet with embedded images, and copies their images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pairuni.io.files import atomic_write
from pairuni.io.images import ImageError, decode, read_bytes
from pairuni.pairug.dataset.parquet import count_fault, is_embedded, iter_rows
from pairuni.pairug.dataset.store import image_fields, read_pairs, write_pairs, written_path_fault
from pairuni.records import UGPair


def convert_pairs(source: Path, target: Path, *, embed: bool = False) -> int:
    """Write the pairs of ``source`` to ``target``, in the format of its suffix; returns their number.

    embed: images are embedded in the parquet file. Otherwise they are written to the target's folder under the same
    relative paths, unless they are there already. Raises FileNotFoundError, and ValueError for pairs that cannot be
    read, images that are missing or do not decode, image paths that leave the target's folder or are not the name of
    an image, and files in the way.
    """
    if embed and target.suffix != ".parquet":
        raise ValueError(f"{target}: only .parquet files can embed images")
    pairs = read_pairs(source)
    inside = source.suffix == ".parquet" and is_embedded(source)
    if inside and embed:
        raise ValueError(f"{source} already embeds its images; copy the file")
    if embed:
        write_pairs(target, pairs, embed=source.parent)
        return len(pairs)
    if inside or target.resolve().parent != source.resolve().parent:
        _check_names(source, target.parent, pairs)
        for image_path, data in _embedded(source) if inside else _files(source, pairs):
            _place(source, target.parent / image_path, data)
    write_pairs(target, pairs)
    return len(pairs)


def _embedded(source: Path) -> Iterator[tuple[str, bytes]]:
    placed = set()
    for number, values, images in iter_rows(source, with_images=True):
        assert isinstance(values, dict), "the pairs were checked before"
        for side, several in images.items():
            paths = values[side].get("image_paths") or [values[side]["image_path"]]
            if len(several) != len(paths):
                raise ValueError(
                    f"{source}, line {number}, field {side}.images: {count_fault(several, paths)}"
                )
            for image_path, data in zip(paths, several, strict=True):
                if not data:
                    raise ValueError(f"{source}, line {number}, field {side}.image: {image_path!r} is empty")
                if image_path not in placed:
                    placed.add(image_path)
                    yield image_path, data


def _files(source: Path, pairs: list[UGPair]) -> Iterator[tuple[str, bytes]]:
    for image_path in dict.fromkeys(path for pair in pairs for _, path in image_fields(pair)):
        try:
            yield image_path, read_bytes(source.parent / image_path)
        except ImageError as error:
            raise ValueError(f"{source}: {image_path!r} {error}") from None


def _check_names(source: Path, folder: Path, pairs: list[UGPair]) -> None:
    """Check all names, which come from the source, before anything is written."""
    for number, pair in enumerate(pairs, start=1):
        for field, image_path in image_fields(pair):
            fault = written_path_fault(folder, image_path)
            if fault is not None:
                raise ValueError(f"{source}: pair {number}, {field}: {image_path!r} {fault}")


def _place(source: Path, path: Path, data: bytes) -> None:
    try:
        decode(data)
    except ImageError as error:
        raise ValueError(f"{source}: the image {path.name!r} {error}") from None
    if os.path.lexists(path):
        if _read(path) != data:
            raise ValueError(f"{path} exists and is another file; choose an empty folder")
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _read(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except ImageError:
        return None
