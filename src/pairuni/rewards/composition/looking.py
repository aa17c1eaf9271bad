"""From images and what is asked of them to their objects: one pass of the detector, one of the colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from torch.nn import Module

from pairuni.rewards.composition.detection import ColourNamer, Detection, Detector
from pairuni.rewards.composition.rules import COUNTING_THRESHOLD, THRESHOLD, kept
from pairuni.rewards.reward import models_of

Seen = dict[str, list[Detection]]
"""The objects of an image that count, by class, the most confident first."""


@dataclass(frozen=True)
class Looking:
    """A detector, who names the colours of what it finds, and how sure it must be. colours may be None where the
    detector names them."""

    detector: Detector
    colours: ColourNamer | None
    threshold: float = THRESHOLD
    counting_threshold: float = COUNTING_THRESHOLD

    @property
    def name(self) -> str:
        """Who looks, for the record."""
        return self.detector.name if self.colours is None else f"{self.detector.name} + {self.colours.name}"

    @property
    def models(self) -> tuple[Module, ...]:
        """The torch modules of both."""
        return models_of(self.detector) + models_of(self.colours)

    def __post_init__(self) -> None:
        if self.colours is None and not self.detector.names_colours:
            raise ValueError(f"the detector {self.detector.name} names no colours; give who does")

    def __call__(self, pictures: Sequence[Image.Image], asked: Sequence[Mapping[str, Any]]) -> list[Seen]:
        """The objects of each image; colours are named of those alone whose colour is asked for."""
        found = self.detector(pictures)
        if len(found) != len(pictures):
            raise ValueError(
                f"the detector {self.detector.name} gave {len(found)} lists of objects for {len(pictures)} images"
            )
        seen: list[Seen] = []
        for objects, metadata in zip(found, asked, strict=True):
            by_class: Seen = {}
            for one in objects:
                if not all(map(math.isfinite, (one.confidence, *one.box))):
                    raise ValueError(
                        f"the detector {self.detector.name} gave {one}, with numbers that are not finite"
                    )
                by_class.setdefault(one.label, []).append(one)
            seen.append(
                kept(
                    by_class,
                    metadata.get("tag", ""),
                    threshold=self.threshold,
                    counting_threshold=self.counting_threshold,
                )
            )
        if not self.detector.names_colours:
            self._name_colours(pictures, asked, seen)
        return seen

    def _name_colours(
        self, pictures: Sequence[Image.Image], asked: Sequence[Mapping[str, Any]], seen: Sequence[Seen]
    ) -> None:
        places = [
            (index, name, place)
            for index, metadata in enumerate(asked)
            for name, count in _coloured(metadata)
            for place in range(min(count, len(seen[index].get(name, ()))))
        ]
        if not places:
            return
        assert self.colours is not None, self.detector.name
        named = self.colours([(pictures[index], seen[index][name][place]) for index, name, place in places])
        for (index, name, place), colour in zip(places, named, strict=True):
            seen[index][name][place] = replace(seen[index][name][place], colour=colour)


def _coloured(metadata: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The classes whose colour is asked for, once each, and of how many objects at most."""
    counts: dict[str, int] = {}
    for clause in metadata["include"]:
        if "color" in clause:
            counts[clause["class"]] = max(counts.get(clause["class"], 0), clause["count"])
    yield from counts.items()
