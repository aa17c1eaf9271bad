"""A folder of images, each with a text beside it: cat.jpg and cat.txt, or cat.json."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from pairuni.io.files import read_regular
from pairuni.io.images import IMAGE_SUFFIXES
from pairuni.io.paths import link_fault
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.rows import Row, Rows, text_columns
from pairuni.pairug.sources.skipped import why_left_out

_TEXTS = (".json", ".txt")
MOST_TEXT = 1 << 26
"""Bytes of a text beside an image."""


def folder_rows(folder: Path, *, links: bool = False) -> Rows:
    """A row for each image at any depth, in the order of names.

    A .txt is column ``txt``; the keys of a .json object are columns; an image may have both. The id is the path
    without its suffix, the tag the name of the folder that the image lies in. Folders that are links are read, each
    folder once; a text that is a link out of the folder is a problem unless ``links``. Names that begin with a dot are
    passed over, all other files that are not used are left out with a reason.
    """
    for found in _files(folder, folder, {_identity(folder)}):
        if not isinstance(found, tuple):
            yield found
            continue
        path, beside = found
        member = path.relative_to(folder).as_posix()
        columns = _columns(path, beside, None if links else folder)
        if isinstance(columns, str):
            yield Problem(folder, 0, "", columns, member)
            continue
        values = {**columns, "image_path": member}
        id = path.relative_to(folder).with_suffix("").as_posix()
        yield Row(folder, values, member=member, id=id, tag=path.parent.name)


def _files(
    folder: Path, top: Path, seen: set[tuple[int, int]]
) -> Iterator[tuple[Path, list[str]] | Row | Problem]:
    """(An image, the names of the texts beside it), and what is left out. seen: folders that are read already."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted(
                (entry.name, _is_folder(entry), entry.is_symlink())
                for entry in entries
                if entry.name[0] != "."
            )
    except OSError as error:
        yield Problem(top, 0, "", f"cannot be listed ({error.strerror})", folder.relative_to(top).as_posix())
        return
    texts = {
        _plain(name): name
        for name, is_folder, _ in reversed(listed)
        if not is_folder and _suffix(name) in _TEXTS
    }
    used: set[str] = set()
    for name, is_folder, is_link in listed:
        path = folder / name
        if is_folder:
            if is_link and path.resolve().is_relative_to(top.resolve()):
                yield Row(top, {}, left_out="linked folders that are read where they lie")
            elif (identity := _identity(path)) in seen:
                yield Row(top, {}, left_out="linked folders that are read already")
            else:
                seen.add(identity)
                yield from _files(path, top, seen)
        elif _suffix(name) in IMAGE_SUFFIXES:
            stem = _plain(path.stem)
            beside = [texts[stem + suffix] for suffix in _TEXTS if stem + suffix in texts]
            used.update(beside)
            yield path, beside
        elif _suffix(name) not in _TEXTS:
            yield Row(top, {}, left_out=why_left_out(_suffix(name)))
    for _ in set(texts.values()) - used:
        yield Row(top, {}, left_out="texts without an image of their name")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _plain(name: str) -> str:
    """The name with its suffix in lower case and composed letters, which macOS takes apart."""
    return unicodedata.normalize("NFC", Path(name).stem) + _suffix(name)


def _columns(picture: Path, beside: list[str], inside: Path | None) -> dict[str, object] | str:
    """The columns beside an image, or why there are none. inside: folder that a link must not leave."""
    columns: dict[str, object] = {}
    for name in beside:
        found = _columns_of(picture.with_name(name), inside)
        if isinstance(found, str):
            return f"{name} {found}"
        columns |= found
    return columns if beside else f"has no text beside it ({picture.stem}.txt or {picture.stem}.json)"


def _columns_of(path: Path, inside: Path | None) -> dict[str, object] | str:
    if inside is not None and (fault := link_fault(path, inside)) is not None:
        return f"{fault}; ?images=FOLDER opens a folder with its links"
    try:
        data = read_regular(path, most=MOST_TEXT)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)
    return text_columns(_suffix(path.name), data)
