"""Checks of the image paths in a data set: they must stay in its folder, and written files must be images."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

from pairuni.io.images import IMAGE_SUFFIXES


def path_fault(folder: Path, image_path: str) -> str | None:
    """Why a data set in ``folder`` must not name ``image_path``: it is absolute or leaves the folder, also by a link.

    The files of a snapshot in the hub's cache are links to ``blobs``; these count as inside.
    """
    fault = spelling_fault(image_path)
    if fault is not None:
        return fault
    if is_absolute(image_path):
        return "is absolute; it must be relative to the file"
    try:
        inside = is_inside((folder / image_path).resolve(), folder)
    except (OSError, RuntimeError) as error:
        return f"cannot be resolved ({error})"
    return None if inside else "lies outside the file's folder"


def link_fault(path: Path, folder: Path) -> str | None:
    """Why a file of the raw data in ``folder`` must not be opened: it is a link out of the folder.

    Its parent folders may be links. The blobs of a hub snapshot count as inside.
    """
    try:
        if not path.is_symlink():
            return None
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        return f"cannot be resolved ({error})"
    if is_inside(real, folder) or is_inside(real, path.parent):
        return None
    return "lies outside the file's folder, through a link"


def written_name_fault(image_path: str) -> str | None:
    """Why a file of this name is neither written nor packed: it is hidden or not named like an image."""
    path = PurePosixPath(image_path)
    if any(part.startswith(".") for part in path.parts):
        fault = "contains a name that begins with a dot"
    elif path.suffix.lower() not in IMAGE_SUFFIXES:
        fault = "does not end in an image suffix (.png, .jpg, ...)"
    elif any(unicodedata.category(character) in ("Cc", "Cs") for character in image_path):
        fault = "contains a control character"
    else:
        return None
    return f"{fault}; such files are neither written nor packed"


def spelling_fault(image_path: str) -> str | None:
    """Why this cannot be the path of a file; None if it can."""
    if "\0" in image_path:
        return "contains a NUL character"
    try:
        image_path.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def is_absolute(image_path: str) -> bool:
    """Whether a path begins with a root or a drive, in the notation of POSIX or of Windows."""
    windows = PureWindowsPath(image_path)
    return PurePosixPath(image_path).is_absolute() or bool(windows.drive or windows.root)


def is_inside(real: Path, folder: Path) -> bool:
    """Whether a resolved path lies in ``folder``, or in the blobs of the hub snapshot that contains ``folder``."""
    if real.is_relative_to(folder.resolve()):
        return True
    blobs = _blobs_of(folder)
    return blobs is not None and real.is_relative_to(blobs)


def _blobs_of(folder: Path) -> Path | None:
    """CACHE/datasets--OWNER--NAME/blobs for a folder in or below CACHE/datasets--OWNER--NAME/snapshots/REVISION."""
    for given in (Path(os.path.abspath(folder)), folder.resolve()):
        for parent in (given, *given.parents):
            blobs = parent.parent.parent / "blobs"
            if parent.parent.name == "snapshots" and blobs.is_dir():
                return blobs.resolve()
    return None
