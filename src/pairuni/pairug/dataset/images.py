"""The images of a data set: why one cannot be used, and how many lose something as RGB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pairuni.io.images import ImageError, Trait, decode, read_bytes
from pairuni.io.paths import path_fault

_MEANINGS: dict[Trait, str] = {
    "transparency": "transparent parts, under which white is laid",
    "orientation": "an orientation tag, by which the image is turned upright",
    "frames": "several frames or pages, of which the first is used",
}


def image_fault(folder: Path, image_path: str, traits: Counter[Trait]) -> str | None:
    """What is wrong with an image of the data set in ``folder``; None when it opens whole.

    traits: where what its RGB leaves out is counted.
    """
    fault = path_fault(folder, image_path)
    if fault is not None:
        return fault
    try:
        traits.update(decode(read_bytes(folder / image_path)).traits)
    except ImageError as error:
        return error.reason
    return None


def counted(traits: Iterable[Iterable[Trait]]) -> dict[Trait, int]:
    """Trait -> images that have it, in a fixed order, those that occur."""
    counts = Counter(trait for of_one in traits for trait in of_one)
    return {trait: counts[trait] for trait in _MEANINGS if counts[trait]}


def described(counts: Mapping[Trait, int]) -> list[str]:
    """A sentence for each trait that occurs."""
    return [
        f"{count:,} {'image has' if count == 1 else 'images have'} {_MEANINGS[trait]}"
        for trait in _MEANINGS
        if (count := counts.get(trait, 0))
    ]
