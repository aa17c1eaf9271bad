"""What stands among pictures and texts and is neither: counted by kind, never passed over silently."""

from __future__ import annotations

_NOT_READ = {
    "pictures": "apng heic heif svg svgz psd ai eps ps jp2 j2k jpx jxl ico icns tga dds exr hdr pcx qoi xcf "
    "dng cr2 cr3 nef arw orf rw2 raf raw",
    "films": "mp4 m4v mov avi mkv webm gifv mpg mpeg",
    "arrays": "npy npz pt pth pkl pickle safetensors mat h5 hdf5",
}
_KIND_OF = {f".{suffix}": kind for kind, suffixes in _NOT_READ.items() for suffix in suffixes.split()}
OTHER = "files that are neither pictures nor texts"


def why_left_out(suffix: str) -> str:
    """Why a file with this suffix, in lower case, is not used. One of a few dozen reasons, whatever the suffix."""
    kind = _KIND_OF.get(suffix)
    return OTHER if kind is None else f"{kind} that are not read ({suffix})"
