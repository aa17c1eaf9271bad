"""A folder of images as rows, each image with a text of the same name: cat.jpg with cat.txt or cat.json."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from pairuni.io.files import read_regular
from pairuni.io.images import IMAGE_SUFFIXES
from pairuni.io.paths import link_fault
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.readers.rows import Row, Rows, text_columns, why_left_out

_TEXTS = (".json", ".txt")
MOST_TEXT = 1 << 26
"""Limit for a text file, in bytes."""


def folder_rows(folder: Path, *, links: bool = False) -> Rows:
    """A row for each image at any depth, in order of names.

    A .txt file is column ``txt``, the keys of a .json file are columns; an image may have both. The id is the path
    without suffix, the tag the name of the parent folder. Linked folders are read, each folder once; a text that is a
    link out of ``folder`` is a problem unless ``links``. Names that begin with a dot are ignored; other files that are
    not used are left out with a reason.
    """
    for found in _images(folder, folder, {_identity(folder)}):
        if not isinstance(found, tuple):
            yield found
            continue
        path, texts = found
        member = path.relative_to(folder).as_posix()
        columns = _columns(path, texts, None if links else folder)
        if isinstance(columns, str):
            yield Problem(folder, 0, "", columns, member)
            continue
        values = {**columns, "image_path": member}
        id = path.relative_to(folder).with_suffix("").as_posix()
        yield Row(folder, values, member=member, id=id, tag=path.parent.name)


def _images(
    folder: Path, top: Path, seen: set[tuple[int, int]]
) -> Iterator[tuple[Path, list[str]] | Row | Problem]:
    """(image, names of its texts), and skipped files. seen: identities of the folders that were read."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            listed = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in visible)
    except OSError as error:
        yield Problem(top, 0, "", f"cannot be listed ({error.strerror})", folder.relative_to(top).as_posix())
        return
    files = [name for name, is_folder, _ in listed if not is_folder]
    texts = {_plain(name): name for name in reversed(files) if _suffix(name) in _TEXTS}
    used: set[str] = set()
    for name, is_folder, is_link in listed:
        path = folder / name
        if is_folder:
            if is_link and path.resolve().is_relative_to(top.resolve()):
                yield Row(top, {}, left_out="linked folders that are read at their own place")
            elif (identity := _identity(path)) in seen:
                yield Row(top, {}, left_out="linked folders that are read already")
            else:
                seen.add(identity)
                yield from _images(path, top, seen)
        elif _suffix(name) in IMAGE_SUFFIXES:
            stem = _plain(path.stem)
            own = [texts[stem + suffix] for suffix in _TEXTS if stem + suffix in texts]
            used.update(own)
            yield path, own
        elif _suffix(name) not in _TEXTS:
            yield Row(top, {}, left_out=why_left_out(_suffix(name)))
    for _ in set(texts.values()) - used:
        yield Row(top, {}, left_out="texts without an image of the same name")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _plain(name: str) -> str:
    """The name with composed letters, which macOS decomposes, and its suffix in lower case."""
    return unicodedata.normalize("NFC", Path(name).stem) + _suffix(name)


def _columns(image: Path, texts: list[str], inside: Path | None) -> dict[str, object] | str:
    """The columns from the texts of an image, or a str: why there are none. inside: folder that holds all links."""
    columns: dict[str, object] = {}
    for name in texts:
        found = _text_file(image.with_name(name), inside)
        if isinstance(found, str):
            return f"{name} {found}"
        columns |= found
    return columns if texts else f"has no text next to it ({image.stem}.txt or {image.stem}.json)"


def _text_file(path: Path, inside: Path | None) -> dict[str, object] | str:
    if inside is not None and (fault := link_fault(path, inside)) is not None:
        return f"{fault}; ?images=FOLDER opens a folder with its links"
    try:
        data = read_regular(path, most=MOST_TEXT)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)
    return text_columns(_suffix(path.name), data)
