"""WebDataset tars (as of BLIP3o) as rows: members that share a key, such as 00001.jpg and 00001.txt, are one record."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pairuni.console.counts import counted
from pairuni.io.images import IMAGE_SUFFIXES
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.readers.rows import Row, Rows, text_columns, why_left_out

_TEXTS = (".txt", ".json")
_KNOWN = (*IMAGE_SUFFIXES, *_TEXTS)
_SEVERAL_DOTS = "names with several dots in a tar, such as 1.2.jpg"
MOST_BYTES = 1 << 28
"""Limit for one member; larger ones are neither images nor captions."""
_BUFFER = 1 << 16
_SHARD = re.compile(r"[-_.]\d{4,}$")
_TAR_SUFFIX = re.compile(r"\.tar(\..*)?$|\.tgz$", re.I)


def tar_rows(path: Path) -> Rows:
    """A row for each key, in order, read as a stream; members are never written under their own names.

    The image is column ``image``, a .txt member column ``txt``, the keys of a .json member further columns. Other
    members are left out with a reason; hidden names and those that macOS adds (._NAME, __MACOSX) are ignored. The id
    is the tar's name and the key, the tag the tar's name without its shard number. Concatenated archives are read one
    after another; bytes after an end mark that are not an archive are a problem. A truncated or damaged tar yields
    the complete records before the damage (of the last key, an image and a text suffice), then a problem.
    """
    reader = _Members(path)
    try:
        with _stream(path) as stream:
            for archive in _archives(stream):
                yield from reader.rows(archive)
                yield from reader.ended()
    except _NotAnArchive as error:
        yield Problem(path, 0, "", f"{error}; {reader.complete} before")
        return
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        where = f"after member {reader.key}" if reader.key else ""
        if reader.parts.keys() & set(IMAGE_SUFFIXES) and reader.parts.keys() & set(_TEXTS):
            yield from reader.ended()
        yield Problem(path, 0, "", f"is truncated or damaged; {reader.complete} ({error})", where)
        return
    if not reader.count:
        seen = (
            f": what follows the first dot of {reader.key} and others is not an image suffix, .txt or .json"
        )
        yield Problem(path, 0, "", f"holds no records{seen if reader.key else ''}")


@dataclass
class _Members:
    """Groups the members of a tar into rows.

    count: rows so far. key, parts (suffix -> bytes or problem), others (suffixes that are not read), several_dots: of
    the current record.
    """

    path: Path
    count: int = 0
    key: str = ""
    parts: dict[str, bytes | Problem] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    several_dots: bool = False

    @property
    def complete(self) -> str:
        return f"{counted(self.count, 'record')} {'is' if self.count == 1 else 'are'} complete"

    def rows(self, tar: tarfile.TarFile) -> Rows:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps them all in memory
            if member.isdir() or _is_hidden(member.name):
                continue
            key, suffix = _split(member.name)
            if key != self.key or suffix in self.parts:
                yield from self.ended()
            self.key = key
            if suffix not in _KNOWN:
                if suffix.endswith(_KNOWN):
                    self.several_dots = True
                else:
                    self.others.append(suffix)
                    yield Row(self.path, {}, left_out=why_left_out(suffix))
                continue
            self.parts[suffix] = self._content(tar, member)

    def ended(self) -> Rows:
        """The row of the current key, if any; the next member begins a new one."""
        if self.parts:
            self.count += 1
            yield self._row()
        elif self.several_dots:
            yield Row(self.path, {}, left_out=_SEVERAL_DOTS)
        self.parts, self.others, self.several_dots = {}, [], False

    def _content(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Problem:
        fault = None
        if member.issym() or member.islnk():
            fault = "is a link; only files stored in the tar are read"
        elif not member.isfile():
            fault = "is not a regular file"
        elif not 0 <= member.size <= MOST_BYTES:
            fault = f"is larger than {MOST_BYTES >> 20} MiB"
        if fault is not None:
            return Problem(self.path, 0, "", fault, member.name)
        stream = tar.extractfile(member)
        assert stream is not None  # a regular file has content
        return stream.read()

    def _row(self) -> Row | Problem:
        values: dict[str, Any] = {}
        images: list[dict[str, Any]] = []
        for suffix, data in self.parts.items():
            if isinstance(data, Problem):
                return data
            if suffix in IMAGE_SUFFIXES:
                images.append({"bytes": data, "path": f"{self.key}{suffix}"})
                continue
            found = text_columns(suffix, data)
            if isinstance(found, str):
                return Problem(self.path, 0, "", found, f"member {self.key}{suffix}")
            values = {**values, **found} if suffix == ".txt" else {**found, **values}
        if images:
            values["image"] = images
        member = f"member {self.key}"
        if "image" not in values:
            reason = "there is no image with this key"
            if self.others:
                reason += f"; {', '.join(self.others[:3])} is not read"
            return Problem(self.path, 0, "image_path", reason, member)
        name = _TAR_SUFFIX.sub("", self.path.name)
        return Row(self.path, values, member=member, id=f"{name}/{self.key}", tag=_SHARD.sub("", name))


class _NotAnArchive(ValueError):
    """What follows an end mark is not another archive."""


class _Bounded(io.BufferedReader):
    """Refuses single reads of a size that only a damaged or malicious header asks for."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_BYTES:
            raise tarfile.ReadError(f"a header claims {size:,} bytes")
        return super().read(size)


class _Unpacked(io.RawIOBase):
    """A gzip file that returns what it unpacked before the damage, which ``gzip`` itself discards."""

    def __init__(self, compressed: Any) -> None:
        self._file = gzip.GzipFile(fileobj=compressed)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    """The uncompressed bytes of a tar or tar.gz."""
    with path.open("rb", buffering=0) as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield _Bounded(_Unpacked(file) if is_gzip else file, _BUFFER)


def _archives(stream: BinaryIO) -> Iterator[tarfile.TarFile]:
    """Concatenated archives; each must be read to its end before the next is requested.

    Raises ReadError where ``tarfile`` would take a damaged header for the end, and _NotAnArchive.
    """
    while True:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            yield tar
            stream.seek(tar.offset)
        block = stream.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("there is no end mark")
        while block and not any(block):
            block = stream.read(tarfile.BLOCKSIZE)
        if not block:
            return
        place = stream.seek(-len(block), io.SEEK_CUR)
        try:
            tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
        except tarfile.HeaderError:
            raise _NotAnArchive(
                f"what follows its end mark, from byte {place:,} on, is not an archive"
            ) from None


def _is_hidden(member: str) -> bool:
    parts = PurePosixPath(member).parts
    return "__MACOSX" in parts or (bool(parts) and parts[-1].startswith("."))


def _split(member: str) -> tuple[str, str]:
    """Key and suffix: all before and after the first dot of the file name, as WebDataset defines them."""
    path = PurePosixPath(member)
    stem, dot, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else member, f"{dot}{suffix}".lower()
