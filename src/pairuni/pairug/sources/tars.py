"""WebDataset tars (BLIP3o's layout): members that share a key, as 00001.jpg and 00001.txt, are one record."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.rows import Row, Rows

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_KNOWN = (*IMAGE_SUFFIXES, ".txt", ".json")
_SEVERAL_DOTS = "names of several dots in a tar, such as 1.2.jpg"
MOST_BYTES = 1 << 28
"""Of one member: more is no picture and no caption."""
_SHARD = re.compile(r"[-_.]\d{4,}$")


def tar_rows(path: Path) -> Rows:
    """A row for each key, in order, read as a stream; no member is ever written under its own name.

    The picture is column ``image``, a .txt column ``txt``, a .json's keys columns of their own; other members
    are passed over. The id is the tar's name and the key, the tag the tar's name without a shard's number. A tar
    that is cut off or damaged yields what stands whole before (of the last key a picture with a text is enough), then
    a problem.
    """
    name = path.name.split(".tar")[0].removesuffix(".tgz")
    tag = _SHARD.sub("", name)
    count = 0
    key, parts, passed_over = "", dict[str, Any](), False
    try:
        with _opened(path) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                its_key, suffix = _split(member.name)
                if its_key != key:
                    if parts:
                        count += 1
                        yield _row(path, name, tag, key, parts)
                    elif passed_over:
                        yield Row(path, {}, left_out=_SEVERAL_DOTS)
                    parts, passed_over = {}, False
                key = its_key
                if suffix not in _KNOWN:
                    passed_over |= suffix.endswith(_KNOWN)
                    continue
                if member.size > MOST_BYTES:
                    parts[suffix] = Problem(
                        path, 0, "", f"is larger than {MOST_BYTES >> 20} MiB", member.name
                    )
                    continue
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file has content
                parts[suffix] = stream.read()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        where = f"after member {key}" if key else ""
        if parts.keys() & set(IMAGE_SUFFIXES) and parts.keys() & {".txt", ".json"}:
            count += 1
            yield _row(path, name, tag, key, parts)
        yield Problem(path, 0, "", f"is cut off or damaged; {count:,} records are whole ({error})", where)
        return
    if parts:
        yield _row(path, name, tag, key, parts)
    elif count and passed_over:
        yield Row(path, {}, left_out=_SEVERAL_DOTS)
    elif not count:
        seen = (
            f": {key} and others are no picture, .txt or .json by what follows their first dot" if key else ""
        )
        yield Problem(path, 0, "", f"holds no records{seen}")


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The tar as a stream. Ends with ReadError where ``tarfile`` would take a damaged header for the end."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: BinaryIO = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            yield tar
            end = tar.offset
        if packed:
            while stream.read(MOST_BYTES >> 8):  # to the checksum
                pass
            return
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("there is no end mark")


def _split(member: str) -> tuple[str, str]:
    """Key and suffix: everything before and after the first dot of the file's own name, as WebDataset has it."""
    path = PurePosixPath(member)
    stem, dot, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else member, f"{dot}{suffix}".lower()


def _row(path: Path, name: str, tag: str, key: str, parts: dict[str, Any]) -> Row | Problem:
    values: dict[str, Any] = {}
    pictures: list[dict[str, Any]] = []
    for suffix, data in parts.items():
        if isinstance(data, Problem):
            return data
        if suffix in IMAGE_SUFFIXES:
            pictures.append({"bytes": data, "path": f"{key}{suffix}"})
            continue
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            reason = f"is not UTF-8 text (byte {error.start + 1})"
            return Problem(path, 0, "", reason, f"member {key}{suffix}")
        if suffix == ".txt":
            values["txt"] = text
            continue
        found = json_object(text)
        if isinstance(found, str):
            return Problem(path, 0, "", found, f"member {key}{suffix}")
        values = {**found, **values}
    if pictures:
        values["image"] = pictures
    if "image" not in values:
        return Problem(path, 0, "image_path", "there is no picture beside it", f"member {key}")
    return Row(path, values, member=f"member {key}", id=f"{name}/{key}", tag=tag)


def json_object(text: str) -> dict[str, Any] | str:
    """The object that ``text`` is, or why it is none."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"is not whole JSON ({error})"
    return values if isinstance(values, dict) else f"must be a JSON object, not {type(values).__name__}"
