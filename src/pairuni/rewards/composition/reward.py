"""The reward composition: objects, their numbers, colours and positions, found by any detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from PIL import Image

from pairuni.config import RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.composition.loading import load_pipeline
from pairuni.rewards.composition.pipeline import DetectionPipeline
from pairuni.rewards.composition.rules import check_metadata, grade, judge


class CompositionReward:
    """How far an image fulfils its record's ``include``, ``exclude`` and ``tag``, in the form of GenEval's metadata.

    mode: "graded" is the share of the facts that hold; "strict" is GenEval's decision, 0 or 1.
    """

    name = "composition"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs = ("include",)

    def __init__(self, detect: DetectionPipeline, *, mode: Literal["graded", "strict"] = "graded") -> None:
        self._detect = detect
        self.models = detect.models
        self._strict = mode == "strict"

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> CompositionReward:
        """The reward of ``settings.composition``."""
        chosen = settings.composition.model_dump()
        mode = chosen.pop("mode")
        return cls(load_pipeline(**chosen), mode=mode)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score per image. Raises ValueError, naming the record, for metadata that cannot be judged."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} images to score")
        metadata = [self._metadata(record) for record in records]
        found = self._detect(samples, metadata)
        if self._strict:
            return [float(judge(one, objects).correct) for one, objects in zip(metadata, found, strict=True)]
        return [grade(one, objects) for one, objects in zip(metadata, found, strict=True)]

    def _metadata(self, record: Annotation) -> Mapping[str, Any]:
        extra = record.model_extra or {}
        metadata = {"tag": record.tag} | {key: extra[key] for key in ("include", "exclude") if key in extra}
        where = f"the record with the prompt {record.prompt!r}"
        return check_metadata(metadata, self._detect.detector.labels, where)
