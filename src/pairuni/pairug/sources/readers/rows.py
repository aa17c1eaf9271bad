"""What every reader yields, and what several readers share: texts next to images, and the files they do not read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.io.text import decode_text
from pairuni.pairug.jsonl import Problem, parse_object


@dataclass(frozen=True)
class Row:
    """One raw record as its file holds it: column -> value, and its position.

    id, tag: defaults for records without these columns. An image column holds a path, or {"bytes", "path"} with the
    file's bytes. left_out: why a valid record is not used. typed: whether the format distinguishes numbers from texts.
    notes: content that is not kept. empty: columns of a table that have no value in this row.
    """

    file: Path
    values: dict[str, Any]
    line: int = 0
    member: str = ""
    id: str | None = None
    tag: str = ""
    left_out: str = ""
    typed: bool = True
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    def problem(self, field: str, reason: str) -> Problem:
        """A problem with this row."""
        return Problem(self.file, self.line, field, reason, self.member)


Rows = Iterator[Row | Problem]

_NOT_READ = {
    "images": "apng heic heif svg svgz psd ai eps ps jp2 j2k jpx jxl ico icns tga dds exr hdr pcx qoi xcf "
    "dng cr2 cr3 nef arw orf rw2 raf raw",
    "videos": "mp4 m4v mov avi mkv webm gifv mpg mpeg",
    "data files": "jsonl ndjson csv tsv parquet arrow",
    "arrays": "npy npz pt pth pkl pickle safetensors mat h5 hdf5",
}
_KIND_OF = {f".{suffix}": kind for kind, suffixes in _NOT_READ.items() for suffix in suffixes.split()}
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


def text_columns(suffix: str, data: bytes) -> dict[str, Any] | str:
    """The columns of a text next to an image: the keys of a .json file, else ``txt``; or a str with the reason."""
    if suffix == ".json":
        return parse_object(data)
    try:
        return {"txt": decode_text(data)}
    except ValueError as error:
        return str(error)


def why_left_out(suffix: str) -> str:
    """Why a file with this suffix (lower case) is not used; the number of different reasons is small."""
    kind = _KIND_OF.get(suffix)
    return f"{kind} that are not read ({suffix})" if kind else "files that are neither images nor texts"


def file_fault(path: Path, *, gzip: bool) -> str | None:
    """Why a file is not data in any format, by its first bytes. gzip: whether it may be compressed by gzip."""
    if not path.is_file():
        return None  # its reader reports it; opening a pipe would block
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the data; run git lfs pull"
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the data; download it again"
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return "is a spreadsheet; save it as CSV in UTF-8"
    kind = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
    return None if kind is None or (gzip and kind == "gzip") else f"is compressed ({kind}); unpack it first"
