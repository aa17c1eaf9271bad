"""Pictures that came inside a parquet file or a tar, written out once each, named by their content."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from pairuni.pairug.sources.tars import IMAGE_SUFFIXES

_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


class PictureFolder:
    """A folder of pictures by content: equal pictures share a file, and what is there is not written again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, data: bytes, name: str = "") -> Path:
        """The file that holds ``data``, written aside and renamed if it was not there. Raises OSError.

        Not flushed one by one, which takes longer than the build; what a power cut spoils is written again.
        """
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        path = self.folder / digest[:2] / f"{digest}{suffix_of(data, name)}"
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


def suffix_of(data: bytes, name: str = "") -> str:
    """The suffix that the bytes call for; that of ``name`` when they tell nothing, and .bin without either."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    for beginning, suffix in _BEGINNINGS:
        if data.startswith(beginning):
            return suffix
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".bin"
