"""Rollouts as the trainer sees them: the log-probs of a policy's decisions, and the text or image that came of them.

A decision is what has a log-prob of its own, and so a ratio in Eq. 3: a token of an autoregressive policy, the setting
of a masked token, or a sequence as a whole. A model family derives its trajectories from ``TextTrajectory`` and
``ImageTrajectory`` and adds what replaying them needs. Temperature, guidance and the branch of the log-probs are read
from the trajectory, never again from settings, so that sampled and scored trajectories agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

LogProbBranch = Literal["guided", "conditional"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory(ABC):
    """One rollout. All tensors live on the CPU. log_probs: [D] float32 log-probs of its decisions at sampling."""

    log_probs: Tensor

    @property
    def decisions(self) -> int:
        """D, the number of log-probs that ``UnifiedPolicy.log_probs`` gives for it."""
        return len(self.log_probs)

    @property
    @abstractmethod
    def sampled_tokens(self) -> int:
        """Tokens of the answer or the image; those after the end of an answer do not count."""

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, those of its image included."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTrajectory(Trajectory):
    """A sampled answer.

    log_probs: see ``Trajectory``. text: the answer. finished: it ended by itself and was not cut off.
    """

    modality: ClassVar[Literal["text"]] = "text"
    text: str
    finished: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTrajectory(Trajectory):
    """A sampled image, which ``UnifiedPolicy.decode_images`` makes visible. log_probs: see ``Trajectory``."""

    modality: ClassVar[Literal["image"]] = "image"


@dataclass(frozen=True, kw_only=True)
class TrajectoryLogProbs:
    """Differentiable log-probs of N trajectories, right-padded.

    values, mask: [N, D]; mask is 1 where there is a decision.
    """

    values: Tensor
    mask: Tensor


def padded(rows: Sequence[Tensor]) -> TrajectoryLogProbs:
    """Log-probs [D_i] of each trajectory as one right-padded table."""
    values = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row.detach()) for row in rows], batch_first=True)
    return TrajectoryLogProbs(values=values, mask=mask)
