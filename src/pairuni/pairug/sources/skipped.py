"""What stands among images and texts and is neither: counted by kind, never passed over silently."""

from __future__ import annotations

from pathlib import Path

_NOT_READ = {
    "images": "apng heic heif svg svgz psd ai eps ps jp2 j2k jpx jxl ico icns tga dds exr hdr pcx qoi xcf "
    "dng cr2 cr3 nef arw orf rw2 raf raw",
    "videos": "mp4 m4v mov avi mkv webm gifv mpg mpeg",
    "data files": "jsonl ndjson csv tsv parquet arrow",
    "arrays": "npy npz pt pth pkl pickle safetensors mat h5 hdf5",
}
_KIND_OF = {f".{suffix}": kind for kind, suffixes in _NOT_READ.items() for suffix in suffixes.split()}
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
)
OTHER = "files that are neither images nor texts"


def why_left_out(suffix: str) -> str:
    """Why a file with this suffix, in lower case, is not used. One of a few dozen reasons, whatever the suffix."""
    kind = _KIND_OF.get(suffix)
    return OTHER if kind is None else f"{kind} that are not read ({suffix})"


def file_fault(path: Path, *, packed: bool) -> str | None:
    """Why a file is no data of any form, by its first bytes. packed: whether it may be packed by gzip."""
    if not path.is_file():
        return None  # its reader says so, and a pipe would be waited for
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the data; run git lfs pull"
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the data; download it again"
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return "is a spreadsheet; save it as CSV in UTF-8"
    kind = next((name for magic, name in _PACKED if start.startswith(magic)), None)
    return None if kind is None or (packed and kind == "gzip") else f"is packed ({kind}); unpack it first"
