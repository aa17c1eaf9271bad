"""From images to their objects: detection, confidence thresholds, then the colours that the metadata needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from torch.nn import Module

from pairuni.rewards.composition.detection import ColourClassifier, Detection, Detector
from pairuni.rewards.composition.rules import COUNTING_THRESHOLD, THRESHOLD, confident_objects
from pairuni.rewards.reward import models_of


@dataclass(frozen=True)
class DetectionPipeline:
    """A detector, a colour classifier and thresholds. colours may be None for a detector that names colours."""

    detector: Detector
    colours: ColourClassifier | None
    threshold: float = THRESHOLD
    counting_threshold: float = COUNTING_THRESHOLD

    def __post_init__(self) -> None:
        if self.colours is None and not self.detector.names_colours:
            raise ValueError(f"the detector {self.detector.name} names no colours; give a colour classifier")

    @property
    def name(self) -> str:
        """The names of both models, for result files."""
        return self.detector.name if self.colours is None else f"{self.detector.name} + {self.colours.name}"

    @property
    def models(self) -> tuple[Module, ...]:
        """The torch modules of both."""
        return models_of(self.detector) + models_of(self.colours)

    def __call__(
        self, images: Sequence[Image.Image], metadata: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, list[Detection]]]:
        """The confident objects of each image by class, the most confident first.

        Only objects whose colour the metadata requires have one. Raises ValueError if the detector returns another
        number of lists than images, or numbers that are not finite.
        """
        detected = self.detector(images)
        if len(detected) != len(images):
            raise ValueError(
                f"the detector {self.detector.name} returned {len(detected)} lists of objects for {len(images)} images"
            )
        objects = [
            confident_objects(
                self._by_class(found),
                one.get("tag", ""),
                threshold=self.threshold,
                counting_threshold=self.counting_threshold,
            )
            for found, one in zip(detected, metadata, strict=True)
        ]
        if not self.detector.names_colours:
            self._add_colours(images, metadata, objects)
        return objects

    def _by_class(self, found: Sequence[Detection]) -> dict[str, list[Detection]]:
        by_class: dict[str, list[Detection]] = {}
        for one in found:
            if not all(map(math.isfinite, (one.confidence, *one.box))):
                raise ValueError(
                    f"the detector {self.detector.name} returned {one}, with numbers that are not finite"
                )
            by_class.setdefault(one.label, []).append(one)
        return by_class

    def _add_colours(
        self,
        images: Sequence[Image.Image],
        metadata: Sequence[Mapping[str, Any]],
        objects: Sequence[dict[str, list[Detection]]],
    ) -> None:
        places = [
            (index, name, place)
            for index, one in enumerate(metadata)
            for name, count in _required_colours(one)
            for place in range(min(count, len(objects[index].get(name, ()))))
        ]
        if not places:
            return
        assert self.colours is not None, self.detector.name
        named = self.colours([(images[index], objects[index][name][place]) for index, name, place in places])
        for (index, name, place), colour in zip(places, named, strict=True):
            objects[index][name][place] = replace(objects[index][name][place], colour=colour)


def _required_colours(metadata: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Each class with a required colour, and the largest count of its clauses."""
    counts: dict[str, int] = {}
    for clause in metadata["include"]:
        if "color" in clause:
            counts[clause["class"]] = max(counts.get(clause["class"], 0), clause["count"])
    yield from counts.items()
