"""Inputs as users write them, [FORMAT:]PATH[?field=column&...], and the reader of each of their files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pairuni.io.images import IMAGE_SUFFIXES
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.answers import INTERPRETATIONS
from pairuni.pairug.sources.readers.csv_files import csv_rows
from pairuni.pairug.sources.readers.folders import folder_rows
from pairuni.pairug.sources.readers.json_files import json_file, json_lines
from pairuni.pairug.sources.readers.rows import Rows, file_fault
from pairuni.pairug.sources.readers.tables import hub_rows, parquet_rows
from pairuni.pairug.sources.readers.tars import tar_rows

FIELDS = ("id", "image_path", "question", "answer", "options", "prompt", "tag")
"""What columns can be assigned to: the fields of a record, and the options of a question."""

OPTIONS = {
    "images": "folder of the images",
    "leave_out": "abilities that are left out",
    "answers": f"how answers name an option: {', '.join(INTERPRETATIONS)}",
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
    "csv": csv_rows,
    "parquet": parquet_rows,
    "webdataset": tar_rows,
}
_SETTING = re.compile(r"""(\w+)=('[^']*'|"[^"]*"|[^&]*)(?:&|$)""")


@dataclass(frozen=True)
class Input:
    """One input of a build. columns: field -> column or quoted template. options: see OPTIONS and HUB_OPTIONS."""

    format: str | None
    path: str
    columns: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A file, folder or hub data set of an input.

    root: folder that image paths are relative to. named: the user named it as the folder of images. file: what is
    read, if it is one file.
    """

    rows: partial[Rows]
    root: Path
    input: Input
    named: bool
    file: Path | None = None

    def read(self) -> Rows:
        """Rows from the beginning."""
        if self.file is not None and (fault := file_fault(self.file, gzip=self.rows.func is tar_rows)):
            return iter([Problem(self.file, 0, "", fault)])
        return self.rows()


def parse_input(text: str) -> Input:
    """Parse an input. Raises ValueError that lists the allowed values."""
    if os.path.exists(text):
        return Input(None, text)
    format, colon, rest = text.partition(":")
    if not colon or format not in FORMATS:
        format, rest = "", text
    path, _, query = re.sub(r"\?(?=\w+=)", "\0", rest, count=1).partition("\0")
    known = (*FIELDS, *OPTIONS, *(HUB_OPTIONS if format == "hub" else ()))
    columns: dict[str, str] = {}
    options: dict[str, str] = {}
    at = 0
    while at < len(query):
        found = _SETTING.match(query, at)
        if found is None:
            raise ValueError(f"{text}: {query[at:]!r} is not field=column; join several with &")
        at = found.end()
        name, value = found.groups()
        if name not in known:
            raise ValueError(
                f"{text}: {name} is not an option after the question mark; known: {', '.join(known)}"
            )
        if name == "answers" and value not in INTERPRETATIONS:
            raise ValueError(f"{text}: answers is {value!r}, but must be one of {', '.join(INTERPRETATIONS)}")
        (columns if name in FIELDS else options)[name] = value
    if not path:
        raise ValueError(f"{text!r} names no file, folder or data set")
    path = path if format == "hub" else os.path.expanduser(path)  # a shell does not expand ~ inside quotes
    return Input(format or None, path, columns, options)


def parts_of(text: str) -> list[Part]:
    """The parts of an input, in order of names. Raises FileNotFoundError, or ValueError for an unknown format."""
    input = parse_input(text)
    images = input.options.get("images")
    images = None if images is None else os.path.expanduser(images)
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"{images}: no such folder of images")
    named = bool(images)
    if input.format == "hub":
        # named, because `datasets` gives the files of a local folder absolute paths
        rows = partial(hub_rows, input.path, input.options)
        return [Part(rows, Path(images or input.path), input, named=True)]
    parts = []
    for path, format in _files(input):
        if format == "folder":
            parts.append(Part(partial(folder_rows, path, links=named), Path(images or path), input, named))
        else:
            parts.append(
                Part(partial(_READERS[format], path), Path(images or path.parent), input, named, path)
            )
    return parts


def _files(input: Input) -> Iterator[tuple[Path, str]]:
    path = Path(input.path)
    if path.is_file():
        yield path, input.format or _format_of(path)
    elif path.is_dir():
        yield from _inside(path, input.format)
    else:
        is_glob = any(character in str(path) for character in "*?[")
        found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if is_glob else []
        if not found:
            raise FileNotFoundError(f"{path}: no such file or folder of raw samples")
        for one in found:
            yield one, input.format or ("folder" if one.is_dir() else _format_of(one))


def _inside(folder: Path, format: str | None) -> Iterator[tuple[Path, str]]:
    """The data files of a folder, if all have the same format; else it is a folder of images with texts."""
    if format == "folder":
        yield folder, format
        return
    entries = sorted(folder.iterdir())
    files = [
        (path, known)
        for path in entries
        if path.is_file() and (known := _known(path)) and (format is None or known == format)
    ]
    if format in (None, "parquet") and all(known == "json" for _, known in files):
        # no data file, or only the description of a hub data set, whose parquet files are deeper
        files += [(path, "parquet") for path in sorted(folder.rglob("*.parquet"))]
    formats = {known for _, known in files}
    has_images = any(path.suffix.lower() in IMAGE_SUFFIXES for path in entries)
    if format is None and (not formats or (has_images and formats == {"json"})):
        yield folder, "folder"
    elif len(formats) == 1:
        yield from files
    elif format is None:
        raise ValueError(f"{folder} holds {' and '.join(sorted(formats))} files; write FORMAT:{folder}")
    else:
        raise FileNotFoundError(f"{folder}: no {format} file of raw samples in this folder")


def _format_of(path: Path) -> str:
    if format := _known(path):
        return format
    if fault := file_fault(path, gzip=False):
        raise ValueError(f"{path} {fault}")
    formats = ", ".join(FORMATS)
    raise ValueError(
        f"{path}: its format does not follow from its name; write FORMAT:{path} with one of {formats}"
    )


def _known(path: Path) -> str | None:
    name = path.name.lower()
    return next((format for suffix, format in _SUFFIXES.items() if name.endswith(suffix)), None)
