"""The reward format: whether an answer has its reasoning and its result in tags."""

from __future__ import annotations

from collections.abc import Sequence

from pairuni.config import RewardSettings
from pairuni.records import Annotation

TAGS = ("<think>", "</think>", "<answer>", "</answer>")


class FormatReward:
    """A quarter for each of <think>, </think>, <answer>, </answer> that occurs once and in order.

    For policies that are prompted to reason in tags; add it to ``accuracy`` with a small weight.
    """

    name = "format"
    range = (0.0, 1.0)
    needs = ()

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> FormatReward:
        """It has no settings."""
        return cls()

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        """One score in [0, 1] per sample."""
        return [_grade(sample) for sample in samples]


def _grade(sample: str) -> float:
    found, place = 0, 0
    for tag in TAGS:
        at = sample.find(tag)
        if sample.count(tag) == 1 and at >= place:
            found, place = found + 1, at + len(tag)
    return found / len(TAGS)
