"""A folder of pictures, each with a text beside it: cat.jpg and cat.txt, or cat.json."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.rows import Row, Rows
from pairuni.pairug.sources.tars import IMAGE_SUFFIXES, json_object


def folder_rows(folder: Path) -> Rows:
    """A row for each picture at any depth, in the order of names.

    A .txt is column ``txt``; the keys of a .json object are columns. The id is the path without its suffix, the
    tag the name of the folder that the picture lies in.
    """
    for path in _pictures(folder):
        relative = path.relative_to(folder)
        found = _sidecar(path)
        member = relative.as_posix()
        if isinstance(found, str):
            yield Problem(folder, 0, "", found, member)
            continue
        values = {**found, "image_path": member}
        yield Row(folder, values, member=member, id=relative.with_suffix("").as_posix(), tag=path.parent.name)


def _pictures(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in names:
        if name.startswith("."):
            continue
        if is_folder:
            yield from _pictures(folder / name)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES:
            yield folder / name


def _sidecar(picture: Path) -> dict[str, object] | str:
    """The columns beside a picture, or why there are none."""
    for suffix in (".json", ".JSON", ".txt", ".TXT"):
        beside = picture.with_suffix(suffix)
        try:
            text = beside.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            continue
        except UnicodeDecodeError as error:
            return f"{beside.name} is not UTF-8 text (byte {error.start + 1})"
        if suffix.lower() == ".txt":
            return {"txt": text}
        found = json_object(text)
        return f"{beside.name} {found}" if isinstance(found, str) else found
    return f"has no text beside it ({picture.stem}.txt or {picture.stem}.json)"
