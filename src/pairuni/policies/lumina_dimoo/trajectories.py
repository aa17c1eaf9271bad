"""Trajectories of Lumina-DiMOO: a trace, and the log-probs of the decisions that the estimator sees in it."""

from __future__ import annotations

from dataclasses import dataclass

from pairuni.policies.lumina_dimoo.traces import Trace
from pairuni.policies.trajectories import ImageTrajectory, TextTrajectory


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTrace(TextTrajectory):
    """An answer. sampled: its tokens up to the end, which is one of them if the answer is finished."""

    trace: Trace
    sampled: int

    @property
    def sampled_tokens(self) -> int:
        return self.sampled

    @property
    def prompt_tokens(self) -> int:
        return len(self.trace.prompt.ids)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTrace(ImageTrajectory):
    """An image of height x width codes."""

    trace: Trace
    height: int
    width: int

    @property
    def sampled_tokens(self) -> int:
        return len(self.trace.choices)

    @property
    def prompt_tokens(self) -> int:
        return len(self.trace.prompt.ids)


LuminaTrajectory = TextTrace | ImageTrace
