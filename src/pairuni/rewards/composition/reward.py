"""The reward composition: objects, their numbers, colours and positions, found by any detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from PIL import Image

from pairuni.config import RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.composition.asked import checked
from pairuni.rewards.composition.detection import ColourNamer, Detector
from pairuni.rewards.composition.grading import grade
from pairuni.rewards.composition.loading import load_colours, load_detector
from pairuni.rewards.composition.looking import Looking
from pairuni.rewards.composition.rules import COUNTING_THRESHOLD, THRESHOLD, judge


class CompositionReward:
    """What a record's ``include``, ``exclude`` and ``tag`` ask for, in the form of GenEval's metadata (``asked.py``).

    mode: graded is the share of the facts that hold, strict is GenEval's decision, 0 or 1. colours may be None where
    the detector names them itself.
    """

    name = "composition"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs = ("include", "exclude", "tag")

    def __init__(
        self,
        detector: Detector,
        colours: ColourNamer | None = None,
        *,
        mode: Literal["graded", "strict"] = "graded",
        threshold: float = THRESHOLD,
        counting_threshold: float = COUNTING_THRESHOLD,
    ) -> None:
        if colours is None and not detector.names_colours:
            raise ValueError(f"the detector {detector.name} names no colours; give who does")
        self._look = Looking(detector, colours, threshold, counting_threshold)
        self._strict = mode == "strict"

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> CompositionReward:
        """The reward of ``settings.composition``."""
        chosen = settings.composition
        detector = load_detector(
            chosen.detector,
            device=chosen.device,
            least=min(chosen.threshold, chosen.counting_threshold),
            batch_size=chosen.batch_size,
        )
        return cls(
            detector,
            None if detector.names_colours else load_colours(chosen.clip, device=chosen.device),
            mode=chosen.mode,
            threshold=chosen.threshold,
            counting_threshold=chosen.counting_threshold,
        )

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score a picture. Raises ValueError, naming the record, when it does not say what is asked."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} pictures to score")
        asked = [self._asked(record) for record in records]
        seen = self._look(samples, asked)
        if self._strict:
            return [float(judge(one, objects).correct) for one, objects in zip(asked, seen, strict=True)]
        return [grade(one, objects) for one, objects in zip(asked, seen, strict=True)]

    def _asked(self, record: Annotation) -> Mapping[str, Any]:
        extra = record.model_extra or {}
        asked = {"tag": record.tag} | {key: extra[key] for key in ("include", "exclude") if key in extra}
        return checked(asked, self._look.detector.labels, f"the record with the prompt {record.prompt!r}")
