"""A pair file keeps its images under its own folder: one place for each distinct image."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from pairuni.io.images import IMAGE_SUFFIXES, suffix_of
from pairuni.io.paths import written_name_fault
from pairuni.pairug.record_file import RecordFile
from pairuni.records import Quadruple

_LONGEST_STEM = 150
"""Bytes of an image's own name that are kept; a file's name has 255 at most."""


def gather_images(
    quadruples: Sequence[Quadruple], digests: Sequence[str], out: Path, scratch: Path
) -> Sequence[Quadruple]:
    """The quadruples with image paths relative to ``out``, equal where the images are equal.

    digests: content of each quadruple's image; copies of one image, under whatever names, share the path of
    the first. An image under ``out`` stays where it is; another is copied to images/ under its own name and
    part of its digest. A copy, not a link: raw data that is written anew must not change pairs made before.
    scratch: folder that keeps the quadruples while they are used.
    """
    root = out.resolve()
    place_of: dict[str, str] = {}
    gathered = RecordFile(scratch, Quadruple)
    for quadruple, digest in zip(quadruples, digests, strict=True):
        if digest not in place_of:
            place_of[digest] = _place(Path(quadruple.image_path), digest, root)
        gathered.append(quadruple.model_copy(update={"image_path": place_of[digest]}))
    return gathered


def _place(source: Path, digest: str, root: Path) -> str:
    name, source = source, source.resolve()
    if source.is_relative_to(root):
        inside = source.relative_to(root).as_posix()
        if written_name_fault(inside) is None:
            return inside
    target = root / "images" / f"{_stem(name)}-{digest[:16]}{_suffix(name, source)}"
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        # Not flushed one by one, which takes longer than the build; what a power cut spoils is copied again.
        target.parent.mkdir(exist_ok=True)
        aside = target.with_name(f".{target.name}.partial")
        try:
            shutil.copyfile(source, aside)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    return target.relative_to(root).as_posix()


def _stem(name: Path) -> str:
    """A file's own name as that of a visible file, of names that a link may have been given."""
    visible = "".join("_" if unicodedata.category(one) in ("Cc", "Cs") else one for one in name.stem)
    return visible.lstrip(".").encode()[:_LONGEST_STEM].decode(errors="ignore") or "picture"


def _suffix(name: Path, source: Path) -> str:
    """Its suffix, or where that is no image's, the one that its first bytes call for."""
    if name.suffix.lower() in IMAGE_SUFFIXES:
        return name.suffix
    with source.open("rb") as file:
        return suffix_of(file.read(16)) or IMAGE_SUFFIXES[0]
