"""Paths of images that a data set names: they stay in its folder, and what is written is an image's name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

from pairuni.io.images import IMAGE_SUFFIXES


def path_fault(folder: Path, image_path: str) -> str | None:
    """Why a data set in ``folder`` must not name ``image_path``: it is absolute, or leaves the folder, by a link too.

    A snapshot in the hub's cache is a folder of links into the blobs beside it; these are not outside.
    """
    fault = spelling_fault(image_path)
    if fault is not None:
        return fault
    if is_absolute(image_path):
        return "is absolute; it must be relative to the file"
    try:
        inside = is_inside((folder / image_path).resolve(), folder)
    except (OSError, RuntimeError) as error:
        return f"cannot be followed ({error})"
    return None if inside else "lies outside the file's folder"


def link_fault(path: Path, folder: Path) -> str | None:
    """Why a file of the data in ``folder``, which its user named, must not be followed: it is a link out of it.

    The folders on the way may be links. The blobs of a hub snapshot are not outside of it.
    """
    try:
        if not path.is_symlink():
            return None
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        return f"cannot be followed ({error})"
    if is_inside(real, folder) or is_inside(real, path.parent):
        return None
    return "lies outside the file's folder, by a link"


def written_name_fault(image_path: str) -> str | None:
    """Why a file of this name is neither written nor packed: it is hidden, or does not end as an image does."""
    path = PurePosixPath(image_path)
    if any(part.startswith(".") for part in path.parts):
        return "holds a name that begins with a dot; such files are neither written nor packed"
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return "does not end as an image does (.png, .jpg, ...); such files are neither written nor packed"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in image_path):
        return "holds a control character; such files are neither written nor packed"
    return None


def spelling_fault(image_path: str) -> str | None:
    """Why no file can have this path."""
    if "\0" in image_path:
        return "holds a NUL character"
    try:
        image_path.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def is_absolute(image_path: str) -> bool:
    """Whether a path begins at a root or a drive, of this system or of Windows."""
    windows = PureWindowsPath(image_path)
    return PurePosixPath(image_path).is_absolute() or bool(windows.drive or windows.root)


def is_inside(real: Path, folder: Path) -> bool:
    """Whether a path without links lies in ``folder``, or in the blobs of the hub snapshot that ``folder`` is in."""
    if real.is_relative_to(folder.resolve()):
        return True
    blobs = _blobs_of(folder)
    return blobs is not None and real.is_relative_to(blobs)


def _blobs_of(folder: Path) -> Path | None:
    """CACHE/datasets--OWNER--NAME/blobs for a folder in or below CACHE/datasets--OWNER--NAME/snapshots/REVISION."""
    for whole in (Path(os.path.abspath(folder)), folder.resolve()):
        for place in (whole, *whole.parents):
            if place.parent.name == "snapshots" and (place.parent.parent / "blobs").is_dir():
                return (place.parent.parent / "blobs").resolve()
    return None
