"""From the image value of a row (path, bytes, base64, data URI, file URL) to an image file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from pairuni.io.files import atomic_write
from pairuni.io.images import IMAGE_SUFFIXES, ImageError, suffix_of
from pairuni.io.paths import is_absolute, link_fault, spelling_fault

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+:)?//")
_DATA_URI = re.compile(r"data:([^,]{0,200}),(.*)", re.S | re.I)
_PREFIX = re.compile(r"(?:[a-z]{1,20}/[a-z0-9.+-]{1,40};)?base64(?:,|://)", re.I)
_REPR = re.compile(r"""b?(['"])([A-Za-z0-9+/=_\s-]*)\1""")
"""Base64 as Python prints it, of text or bytes."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_URL_SAFE = str.maketrans("-_", "+/")
_START = 32
"""Characters of base64 that distinguish an image from a path; the shortest GIF has more."""
_KEYS = ("bytes", "path", "url", "image_url", "image", "file_name")
"""Keys of an object that describes an image; the first that is not null counts."""
_LONGEST_PATH = 4096


class ImageFolder:
    """A content-addressed folder of images: equal images share a file, and existing files are not written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, data: bytes, name: str = "") -> Path:
        """Write ``data`` unless its file exists, and return the file. Raises OSError.

        The suffix follows from the bytes; if they are not an image, from ``name``, else it is .bin. Files are not
        flushed to disk, which would take longer than the build; one of another size is written again.
        """
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        named = PurePosixPath(name).suffix.lower()
        suffix = suffix_of(data) or (named if named in IMAGE_SUFFIXES else ".bin")
        path = self.folder / digest[:2] / f"{digest}{suffix}"
        if not path.exists() or path.stat().st_size != len(data):
            with atomic_write(path, sync=False) as partial:
                partial.write_bytes(data)
        return path


class Found(NamedTuple):
    """An image file. written: its bytes were inside the data and have been written out."""

    path: Path
    written: bool


@dataclass(frozen=True)
class ImageFinder:
    """Finds the image files of an input.

    root: folder that paths are relative to. named: the user named it as the folder of images, which allows its links
    and absolute paths into it. embedded: where images inside the data are written.
    """

    root: Path
    named: bool
    embedded: ImageFolder | None

    def find(self, value: Any) -> Found:
        """The file of an image (text, bytes, or an object of these); the file of a path need not exist.

        ``..`` out of the root is refused, and so is a link out of it unless the root is named. Linked folders are
        followed: they are part of what the user named as data. Raises ImageError with the reason.
        """
        if isinstance(value, bytes | bytearray | memoryview):
            return self._write(_from_bytes(bytes(value)))
        if isinstance(value, dict):
            return self._find_in_object(value)
        assert isinstance(value, str)
        is_name = len(value) <= _LONGEST_PATH and os.path.lexists(self.root / value)
        data = None if is_name else _from_text(value)
        return Found(self._local(_from_file_url(value)), False) if data is None else self._write(data)

    def _find_in_object(self, value: dict[Any, Any]) -> Found:
        key = next((name for name in _KEYS if value.get(name) is not None), None)
        inner = value.get(key)
        if key is None:
            raise ImageError(f"the image is empty; it needs one of {', '.join(_KEYS)}")
        if key == "bytes":
            return self._write(_from_bytes_key(inner), str(value.get("path") or ""))
        if not isinstance(inner, str | bytes | dict):
            raise ImageError(f"{key} of the image must be text, not {type(inner).__name__}")
        return self.find(inner)

    def _write(self, data: bytes, name: str = "") -> Found:
        if not data:
            raise ImageError("the image is empty")
        if self.embedded is None:
            raise ValueError(f"the data in {self.root} has embedded images; name a folder to write them to")
        return Found(self.embedded.write(data, name), True)

    def _local(self, given: str) -> Path:
        """The file of a path in the data."""
        shown = _shown(given)
        fault = spelling_fault(given)
        if fault is None and (len(given) > _LONGEST_PATH or "\n" in given):
            fault = "is neither a path nor an image in base64"
        if fault is not None:
            raise ImageError(f"{shown} {fault}")
        if is_absolute(given) or given.startswith("~/"):
            return self._absolute(os.path.expanduser(given), shown)
        relative = self._spelled(given)
        if relative == ".." or relative.startswith("../"):
            raise ImageError(f"{shown} lies outside the file's folder")
        path = _reachable(self.root / relative, shown)
        if not self.named and (fault := link_fault(path, self.root)) is not None:
            raise ImageError(f"{shown} {fault}; ?images=FOLDER also opens linked files")
        return path

    def _spelled(self, given: str) -> str:
        """The path as spelled on this system: Windows writes backslashes, macOS decomposes letters."""
        slashed = given.replace("\\", "/")
        forms = [given, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))]
        paths = list(dict.fromkeys(map(os.path.normpath, forms)))
        return next((path for path in paths if os.path.lexists(self.root / path)), os.path.normpath(slashed))

    def _absolute(self, given: str, shown: str) -> Path:
        path = Path(os.path.normpath(given))
        if not self.named:
            raise ImageError(f"{shown} is absolute; ?images=FOLDER opens the folder that it lies in")
        if any(path.is_relative_to(top) for top in (os.path.abspath(self.root), self.root.resolve())):
            return _reachable(path, shown)
        raise ImageError(f"{shown} is absolute and lies outside {self.root}")


def _from_text(text: str) -> bytes | None:
    """The image in a text of base64 or a data URI; None for the name of a file. Raises ImageError."""
    text = text.strip()
    if found := _DATA_URI.match(text):
        kind, content = found.groups()
        if kind.lower().endswith(";base64"):
            return _from_base64(unquote(content))
        return unquote_to_bytes(content)
    if found := _PREFIX.match(text):
        return _from_base64(text[found.end() :])
    if found := _REPR.fullmatch(text):
        text = found[2]
    start = "".join(text[: 2 * _START].split())[:_START].translate(_URL_SAFE)
    if (
        "." in text[:_LONGEST_PATH]
        or len(start) < _START
        or not _BASE64.fullmatch(start)
        or not _begins_as_image(base64.b64decode(start + "=="))
    ):
        return None
    return _from_base64(text)


def _from_base64(text: str) -> bytes:
    plain = "".join(text.split()).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("the image is base64 that cannot be decoded") from None


def _begins_as_image(data: bytes) -> bool:
    if data.startswith(b"BM"):  # two letters are not enough evidence: a bitmap has four reserved zeros
        return data[6:10] == bytes(4)
    return suffix_of(data) is not None


def _from_bytes(data: bytes) -> bytes:
    """The image in a column of bytes, which may also be base64."""
    if suffix_of(data) is None and data.isascii():
        found = _from_text(data.decode("ascii"))
        return data if found is None else found
    return data


def _from_bytes_key(value: Any) -> bytes:
    """The image under the key "bytes": bytes, base64, or a list of numbers. Raises ImageError."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _from_bytes(bytes(value))
    if isinstance(value, str):
        found = _from_text(value)
        return _from_base64(value) if found is None else found
    if isinstance(value, list):
        try:
            return bytes(value)
        except (TypeError, ValueError):
            raise ImageError("bytes of the image must be numbers from 0 to 255") from None
    raise ImageError(f"bytes of the image must be bytes or base64, not {type(value).__name__}")


def _from_file_url(given: str) -> str:
    """The path in a file URL; other texts unchanged. Raises ImageError for other URLs."""
    if given[:5].lower() == "file:":
        parts = urlsplit(given)
        if parts.netloc not in ("", "localhost"):
            raise ImageError(f"{_shown(given)} is a URL of another machine; name a file")
        return unquote(parts.path)
    if _URL.match(given):
        raise ImageError(
            f"{_shown(given)} is a URL; images are not downloaded: download it and name the file"
        )
    return given


def _reachable(path: Path, shown: str) -> Path:
    """The path, whether or not the file exists. Raises ImageError if the system cannot tell."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ImageError(f"{shown} cannot be resolved ({error.strerror})") from None
    return path


def _shown(given: str) -> str:
    return repr(given if len(given) <= 80 else given[:60] + "...")
