"""A folder of pictures, each with a text beside it: cat.jpg and cat.txt, or cat.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pairuni.files import read_regular
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.others import why_left_out
from pairuni.pairug.sources.rows import Row, Rows
from pairuni.pairug.sources.tars import json_object
from pairuni.paths import link_fault
from pairuni.pictures import PICTURE_SUFFIXES

_TEXTS = (".json", ".txt")
MOST_TEXT = 1 << 26
"""Bytes of a text beside a picture."""


def folder_rows(folder: Path, *, links: bool = False) -> Rows:
    """A row for each picture at any depth, in the order of names.

    A .txt is column ``txt``; the keys of a .json object are columns. The id is the path without its suffix, the
    tag the name of the folder that the picture lies in. Folders that are links are read, each folder once; a text
    that is a link out of the folder is a problem unless ``links``. Names that begin with a dot are passed over, all
    other files that are not used are left out with a reason.
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
) -> Iterator[tuple[Path, str | None] | Row | Problem]:
    """(A picture, the name of the text beside it), and what is left out. seen: folders that are read already."""
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
        _small(name): name
        for name, is_folder, _ in reversed(listed)
        if not is_folder and _suffix(name) in _TEXTS
    }
    used = set()
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
        elif _suffix(name) in PICTURE_SUFFIXES:
            beside = next((texts[path.stem + one] for one in _TEXTS if path.stem + one in texts), None)
            used.add(beside)
            yield path, beside
        elif _suffix(name) not in _TEXTS:
            yield Row(top, {}, left_out=why_left_out(_suffix(name)))
    for _ in set(texts.values()) - used:
        yield Row(top, {}, left_out="texts without a picture of their name")


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


def _small(name: str) -> str:
    """The name with its suffix in small letters."""
    return Path(name).stem + _suffix(name)


def _columns(picture: Path, beside: str | None, inside: Path | None) -> dict[str, object] | str:
    """The columns beside a picture, or why there are none. inside: folder that a link must not leave."""
    if beside is None:
        return f"has no text beside it ({picture.stem}.txt or {picture.stem}.json)"
    path = picture.with_name(beside)
    if inside is not None and (fault := link_fault(path, inside)) is not None:
        return f"{beside} {fault}; ?images=FOLDER opens a folder with its links"
    try:
        text = read_regular(path, most=MOST_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"{beside} is not UTF-8 text (byte {error.start + 1})"
    except OSError as error:
        return f"{beside} cannot be read ({error.strerror})"
    except ValueError as error:
        return f"{beside} {error}"
    if _suffix(beside) == ".txt":
        return {"txt": text}
    found = json_object(text)
    return f"{beside} {found}" if isinstance(found, str) else found
