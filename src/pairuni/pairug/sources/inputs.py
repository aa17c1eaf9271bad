"""What a user names as raw data: [FORMAT:]PATH[?field=column&...], told apart by its form."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pairuni.io.images import IMAGE_SUFFIXES
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.answers import READINGS
from pairuni.pairug.sources.folders import folder_rows
from pairuni.pairug.sources.rows import Rows, json_file, json_lines
from pairuni.pairug.sources.separated import separated
from pairuni.pairug.sources.skipped import file_fault
from pairuni.pairug.sources.tables import hub_rows, parquet_rows
from pairuni.pairug.sources.tars import tar_rows

FIELDS = ("id", "image_path", "question", "answer", "options", "prompt", "tag")
"""What a column can be: the record's own fields, and the options of a question."""

OPTIONS = {
    "images": "folder of the images",
    "leave_out": "abilities that are left out",
    "answers": f"what answers name an option by: {', '.join(READINGS)}",
}
HUB_OPTIONS = ("config", "split", "revision")

FORMATS = ("jsonl", "json", "csv", "webdataset", "parquet", "folder", "hub")

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".parquet": "parquet",
    ".tar": "webdataset",
    ".tgz": "webdataset",
    ".tar.gz": "webdataset",
}
_READERS = {
    "jsonl": json_lines,
    "json": json_file,
    "csv": separated,
    "parquet": parquet_rows,
    "webdataset": tar_rows,
}
_SETTING = re.compile(r"""(\w+)=('[^']*'|"[^"]*"|[^&]*)(?:&|$)""")


@dataclass(frozen=True)
class Input:
    """One input of a build. columns: field -> column or quoted template; options: as OPTIONS and HUB_OPTIONS."""

    format: str | None
    path: str
    columns: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A file, folder or hub data set of an input.

    root: folder that its image paths are relative to. named: whether the user named it as the folder of images.
    file: what is read, if it is one file.
    """

    rows: partial[Rows]
    root: Path
    input: Input
    named: bool
    file: Path | None = None

    def read(self) -> Rows:
        fault = None if self.file is None else file_fault(self.file, packed=self.rows.func is tar_rows)
        return self.rows() if fault is None else iter([Problem(self.file or self.root, 0, "", fault)])


def parse_input(text: str) -> Input:
    """An input from what a user wrote. Raises ValueError, saying what may be written."""
    if os.path.exists(text):
        return Input(None, text)
    format, colon, rest = text.partition(":")
    if not colon or format not in FORMATS:
        format, rest = "", text
    path, _, query = re.sub(r"\?(?=\w+=)", "\0", rest, count=1).partition("\0")
    columns, options = {}, {}
    at = 0
    while at < len(query):
        found = _SETTING.match(query, at)
        if found is None:
            raise ValueError(f"{text}: {query[at:]!r} is not field=column; join several with &")
        at = found.end()
        name, value = found.groups()
        if name in FIELDS:
            columns[name] = value
        elif name == "answers" and value not in READINGS:
            raise ValueError(f"{text}: answers is {value!r}, but must be one of {', '.join(READINGS)}")
        elif name in OPTIONS or (name in HUB_OPTIONS and format == "hub"):
            options[name] = value
        else:
            known = [*FIELDS, *OPTIONS, *(HUB_OPTIONS if format == "hub" else ())]
            raise ValueError(
                f"{text}: {name} is not known after the question mark; known: {', '.join(known)}"
            )
    if not path:
        raise ValueError(f"{text!r} names no file, folder or data set")
    path = path if format == "hub" else os.path.expanduser(path)  # a shell leaves ~ alone inside quotes
    return Input(format or None, path, columns, options)


def parts_of(text: str) -> list[Part]:
    """What an input holds, in the order of names. Raises FileNotFoundError, or ValueError for an unknown form."""
    input = parse_input(text)
    images = input.options.get("images")
    images = None if images is None else os.path.expanduser(images)
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"{images}: no such folder of images")
    if input.format == "hub":
        root = Path(images or input.path)
        # of a local folder, whose files `datasets` names by absolute paths
        return [Part(partial(hub_rows, input.path, input.options), root, input, named=True)]
    parts = []
    for path, format in _files(input):
        root = Path(images) if images else path if format == "folder" else path.parent
        rows = (
            partial(folder_rows, path, links=bool(images))
            if format == "folder"
            else partial(_READERS[format], path)
        )
        parts.append(Part(rows, root, input, bool(images), None if format == "folder" else path))
    return parts


def _files(input: Input) -> Iterator[tuple[Path, str]]:
    path = Path(input.path)
    if path.is_file():
        yield path, input.format or _format_of(path)
    elif path.is_dir():
        yield from _inside(path, input.format)
    else:
        found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if _is_glob(path) else []
        if not found:
            raise FileNotFoundError(f"{path}: no such file or folder of raw samples")
        for one in found:
            yield one, input.format or ("folder" if one.is_dir() else _format_of(one))


def _inside(folder: Path, format: str | None) -> Iterator[tuple[Path, str]]:
    """A folder's data files, if all are of one format; else it is a folder of images with text beside them."""
    if format == "folder":
        yield folder, format
        return
    files = [
        (path, its)
        for path in sorted(folder.iterdir())
        if path.is_file() and (its := _known(path)) and (format is None or its == format)
    ]
    if all(its == "json" for _, its in files):  # none, or what describes a data set of the hub
        files += [
            (path, "parquet") for path in sorted(folder.rglob("*.parquet")) if format in (None, "parquet")
        ]
    pictures = any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
    formats = {its for _, its in files}
    if format is None and (not formats or (pictures and formats == {"json"})):
        yield folder, "folder"
    elif len(formats) == 1:
        yield from files
    elif format is None:
        raise ValueError(f"{folder} holds {' and '.join(sorted(formats))} files; write FORMAT:{folder}")
    else:
        raise FileNotFoundError(f"{folder}: no {format} file of raw samples in this folder")


def _format_of(path: Path) -> str:
    format = _known(path)
    if format is None and (fault := file_fault(path, packed=False)) is not None:
        raise ValueError(f"{path} {fault}")
    if format is None:
        raise ValueError(
            f"{path}: its name does not tell its format; write FORMAT:{path} with one of {', '.join(FORMATS)}"
        )
    return format


def _known(path: Path) -> str | None:
    name = path.name.lower()
    return next((format for suffix, format in _SUFFIXES.items() if name.endswith(suffix)), None)


def _is_glob(path: Path) -> bool:
    return any(character in str(path) for character in "*?[")
