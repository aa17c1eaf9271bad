"""What is sampled from Lumina-DiMOO: a task, and the trace of setting its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pairuni.policies.lumina_dimoo.prompts import Canvas, Prompt
from pairuni.policies.lumina_dimoo.schedule import Step
from pairuni.policies.trajectories import LogProbBranch

Kind = Literal["text", "codes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A prompt and how its canvas is filled.

    temperature 0 is greedy. branch: "guided" records log-probs of the guided logits, from which tokens are sampled;
    "conditional" those of the conditional logits. stop_ids: text ends with the block in which one of them is set.
    noise: the integers that, with the number of the rollout, determine all randomness; two tasks of one call differ.
    """

    kind: Kind
    prompt: Prompt
    canvas: Canvas
    steps: Sequence[Step]
    temperature: float
    branch: LogProbBranch = "guided"
    stop_ids: tuple[int, ...] = ()
    noise: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """One sampled answer or picture. All tensors live on the CPU.

    choices: [T] token ids, or codes from 0 on, of the first T holes of the canvas in their order; T is smaller than
    the number of holes for a text that ended earlier. steps: [T] the step at which each was set, from 0 on.
    log_probs: [T] float32 at that step, of the temperature-scaled softmax. temperature, branch: see ``Task``.
    mask_seed: determines the masks of estimators that draw some.
    """

    kind: Kind
    prompt: Prompt
    canvas: Canvas
    choices: Tensor
    steps: Tensor
    log_probs: Tensor
    temperature: float
    branch: LogProbBranch
    mask_seed: int

    @property
    def scored_branches(self) -> tuple[tuple[Tensor, float], ...]:
        """The unconditional prompts that its log-probs need."""
        return self.prompt.unconditional if self.branch == "guided" else ()


def row_of(prompt: Tensor, canvas: Canvas, tokens: Tensor, holes: Tensor) -> Tensor:
    """[L] ids of a prompt and its canvas, with tokens [M] set in the holes numbered [M]."""
    filled = canvas.ids.clone()
    filled[canvas.holes[holes]] = tokens
    return torch.cat([prompt, filled])
