"""The reward composition: objects, their numbers, colours and positions, found by any detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from PIL import Image

from pairuni.config import RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.composition.asked import checked
from pairuni.rewards.composition.grading import grade
from pairuni.rewards.composition.loading import load_looking
from pairuni.rewards.composition.looking import Looking
from pairuni.rewards.composition.rules import judge


class CompositionReward:
    """What a record's ``include``, ``exclude`` and ``tag`` ask for, in the form of GenEval's metadata (``asked.py``).

    mode: graded is the share of the facts that hold, strict is GenEval's decision, 0 or 1.
    """

    name = "composition"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs = ("include",)

    def __init__(self, look: Looking, *, mode: Literal["graded", "strict"] = "graded") -> None:
        self._look = look
        self.models = look.models
        self._strict = mode == "strict"

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> CompositionReward:
        """The reward of ``settings.composition``."""
        chosen = settings.composition.model_dump()
        mode = chosen.pop("mode")
        return cls(load_looking(**chosen), mode=mode)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score an image. Raises ValueError, naming the record, when it does not say what is asked."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} images to score")
        asked = [self._asked(record) for record in records]
        seen = self._look(samples, asked)
        if self._strict:
            return [float(judge(one, objects).correct) for one, objects in zip(asked, seen, strict=True)]
        return [grade(one, objects) for one, objects in zip(asked, seen, strict=True)]

    def _asked(self, record: Annotation) -> Mapping[str, Any]:
        extra = record.model_extra or {}
        asked = {"tag": record.tag} | {key: extra[key] for key in ("include", "exclude") if key in extra}
        return checked(asked, self._look.detector.labels, f"the record with the prompt {record.prompt!r}")
