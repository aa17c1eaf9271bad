"""From what a row holds for its image to a file: a path, bytes, base64, a data URI, a file URL."""

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
"""Characters of base64 that tell an image from a path; the shortest GIF has more."""
_INSIDE = ("bytes", "path", "url", "image_url", "image", "file_name")
"""Keys of an object that stands for an image, the first that is not null."""
_LONGEST_PATH = 4096


class ImageFolder:
    """A folder of images by content: equal images share a file, and what is there is not written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, data: bytes, name: str = "") -> Path:
        """The file that holds ``data``, written aside and renamed if it was not there. Raises OSError.

        Its suffix is what the bytes call for; of what is no image that of ``name``, else .bin. Not flushed one by
        one, which takes longer than the build; what a power cut spoils is written again.
        """
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        path = self.folder / digest[:2] / f"{digest}{suffix_of(data) or _image_suffix(name) or '.bin'}"
        try:
            if path.stat().st_size == len(data):
                return path
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.partial")
        try:
            aside.write_bytes(data)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return path


def _image_suffix(name: str) -> str | None:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else None


class Found(NamedTuple):
    """An image's file, and whether it was written out of the data."""

    path: Path
    written: bool


@dataclass(frozen=True)
class Finder:
    """Where the images of an input are.

    root: folder that paths are relative to. named: whether the user named it as the folder of images, which opens
    absolute paths into it and its links. kept: where images that are inside the data are written.
    """

    root: Path
    named: bool
    kept: ImageFolder | None

    def find(self, value: Any) -> Found:
        """The file of an image (text, bytes, or an object around them), which need not exist.

        Raises ImageError with the reason where there is none.
        ``..`` out of the root is refused, and so is a file that is a link out of it unless the root is named;
        links to folders are followed, as they stand in what the user named as data.
        """
        if isinstance(value, bytes | bytearray | memoryview):
            return self._keep(_from_bytes(bytes(value)))
        if isinstance(value, dict):
            return self._inside(value)
        assert isinstance(value, str)
        is_name = len(value) <= _LONGEST_PATH and os.path.lexists(self.root / value)
        data = None if is_name else _from_text(value)
        return Found(self._followed(_from_file_url(value)), False) if data is None else self._keep(data)

    def _inside(self, value: dict[Any, Any]) -> Found:
        key = next((name for name in _INSIDE if value.get(name) is not None), None)
        inner = value.get(key)
        if key is None:
            raise ImageError(f"the image is empty; it needs one of {', '.join(_INSIDE)}")
        if key == "bytes":
            return self._keep(_given_as_bytes(inner), str(value.get("path") or ""))
        if not isinstance(inner, str | bytes | dict):
            raise ImageError(f"{key} of the image must be text, not {type(inner).__name__}")
        return self.find(inner)

    def _keep(self, data: bytes, name: str = "") -> Found:
        if not data:
            raise ImageError("the image is empty")
        if self.kept is None:
            raise ValueError(
                f"the data in {self.root} holds its images inside; say into which folder to write them"
            )
        return Found(self.kept.keep(data, name), True)

    def _followed(self, given: str) -> Path:
        shown = _shown(given)
        fault = spelling_fault(given) or _unlike_a_path(given)
        if fault is not None:
            raise ImageError(f"{shown} {fault}")
        if is_absolute(given) or given.startswith("~/"):
            return self._absolute(os.path.expanduser(given), shown)
        relative = self._spelled(given)
        if relative == ".." or relative.startswith("../"):
            raise ImageError(f"{shown} lies outside the file's folder")
        path = _reachable(self.root / relative, shown)
        if not self.named and (fault := link_fault(path, self.root)) is not None:
            raise ImageError(f"{shown} {fault}; ?images=FOLDER opens a folder with its links")
        return path

    def _spelled(self, given: str) -> str:
        """The path as this system has it: Windows writes backslashes, macOS letters apart from their marks."""
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
    """The image that a text holds as base64 or data URI; None for one that names a file. Raises ImageError."""
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
    if data.startswith(b"BM"):  # two letters are few: of a bitmap four zeros follow
        return data[6:10] == bytes(4)
    return suffix_of(data) is not None


def _from_bytes(data: bytes) -> bytes:
    """The image, which a column of bytes may hold as base64 too."""
    if suffix_of(data) is None and data.isascii():
        found = _from_text(data.decode("ascii"))
        return data if found is None else found
    return data


def _given_as_bytes(value: Any) -> bytes:
    """What stands under "bytes": bytes, base64, or a list of numbers. Raises ImageError."""
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
    """The path of a file URL; of anything else, itself. Raises ImageError for other URLs."""
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
    """The path, whether or not there is a file. Raises ImageError where the system cannot say."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ImageError(f"{shown} cannot be followed ({error.strerror})") from None
    return path


def _unlike_a_path(given: str) -> str | None:
    if len(given) > _LONGEST_PATH or "\n" in given:
        return "is neither a path nor an image in base64"
    return None


def _shown(given: str) -> str:
    return repr(given if len(given) <= 80 else given[:60] + "...")
