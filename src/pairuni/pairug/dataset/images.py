"""The images of a data set: copied into its folder, checked, and what conversion to RGB changes."""

from __future__ import annotations

import filecmp
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pairuni.io.files import atomic_write
from pairuni.io.images import IMAGE_SUFFIXES, ImageError, Trait, decode, read_bytes, suffix_of
from pairuni.io.paths import path_fault, written_name_fault
from pairuni.pairug.record_file import RecordFile
from pairuni.records import Quadruple

_LONGEST_STEM = 150
"""Bytes kept of an image's file name; a name in a file system has at most 255."""

_MEANINGS: dict[Trait, str] = {
    "transparency": "transparent parts, which are laid over white",
    "orientation": "an orientation tag, which is applied",
    "frames": "several frames or pages, of which the first is used",
}


def image_fault(folder: Path, image_path: str, traits: Counter[Trait]) -> str | None:
    """The problem of an image of the data set in ``folder``, or None if it decodes.

    traits: counter to which the image's traits are added.
    """
    fault = path_fault(folder, image_path)
    if fault is not None:
        return fault
    try:
        traits.update(decode(read_bytes(folder / image_path)).traits)
    except ImageError as error:
        return error.reason
    return None


def count_traits(traits: Iterable[Iterable[Trait]]) -> dict[Trait, int]:
    """Trait -> number of images that have it, in a fixed order, for traits that occur."""
    counts = Counter(trait for of_one in traits for trait in of_one)
    return {trait: counts[trait] for trait in _MEANINGS if counts[trait]}


def describe_traits(counts: Mapping[Trait, int]) -> list[str]:
    """One sentence per trait that occurs."""
    return [
        f"{count:,} {'image has' if count == 1 else 'images have'} {_MEANINGS[trait]}"
        for trait in _MEANINGS
        if (count := counts.get(trait, 0))
    ]


def gather_images(
    quadruples: Sequence[Quadruple],
    digests: Sequence[Sequence[str]],
    out: Path,
    scratch: Path,
    *,
    earlier: Path | None = None,
) -> Sequence[Quadruple]:
    """The quadruples with image paths relative to ``out``; equal images have equal paths.

    digests: content of each quadruple's images; copies of an image share the path of the first. An image inside
    ``out`` stays in place; any other is copied to images/ under its name and part of its digest. Links would not
    do: rewritten raw data must not change earlier pairs. scratch: folder for temporary files. earlier: folder of the
    data set that the images are from. Their paths stay as there, and files are hard links where that is possible,
    because a data set never rewrites an image.
    """
    root = out.resolve()
    place_of: dict[str, str] = {}
    gathered = RecordFile(scratch, Quadruple)
    for quadruple, own in zip(quadruples, digests, strict=True):
        for image_path, digest in zip(quadruple.image_paths, own, strict=True):
            if digest not in place_of:
                source = Path(image_path)
                place_of[digest] = (
                    _place(source, digest, root) if earlier is None else _link(source, earlier, root)
                )
        gathered.append(quadruple.with_images([place_of[digest] for digest in own]))
    return gathered


def _place(source: Path, digest: str, root: Path) -> str:
    name, source = source, source.resolve()
    if source.is_relative_to(root):
        inside = source.relative_to(root).as_posix()
        if written_name_fault(inside) is None:
            return inside
    target = root / "images" / f"{_stem(name)}-{digest[:16]}{_suffix(name, source)}"
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        # Flushing to disk would take longer than the build; a damaged copy is repaired by the next build.
        with atomic_write(target, sync=False) as temporary:
            shutil.copyfile(source, temporary)
    return target.relative_to(root).as_posix()


def _link(source: Path, earlier: Path, root: Path) -> str:
    place, source = source.relative_to(earlier).as_posix(), source.resolve()
    target = root / place
    if not target.exists() or not (target.samefile(source) or filecmp.cmp(source, target, shallow=False)):
        with atomic_write(target, sync=False) as temporary:
            try:
                os.link(source, temporary)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(source, temporary)
    return place


def _stem(name: Path) -> str:
    """The stem of a file's name, shortened, without control characters and leading dots."""
    visible = "".join("_" if unicodedata.category(one) in ("Cc", "Cs") else one for one in name.stem)
    return visible.lstrip(".").encode()[:_LONGEST_STEM].decode(errors="ignore") or "picture"


def _suffix(name: Path, source: Path) -> str:
    """The suffix of its name, or if that is not an image's, the one that its first bytes imply."""
    if name.suffix.lower() in IMAGE_SUFFIXES:
        return name.suffix
    with source.open("rb") as file:
        return suffix_of(file.read(16)) or IMAGE_SUFFIXES[0]
