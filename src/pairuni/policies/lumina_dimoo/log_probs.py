"""Log-probs of given traces under Lumina-DiMOO, with gradient, by one of two estimators.

A masked diffusion model has no tractable likelihood. Both estimators show the model parts of a trace and score what is
hidden: ``TraceReplay`` repeats the states of sampling (TraceRL, Gen-Verse/dLLM-RL), ``SequenceElbo`` draws masks (ESPO,
ML-GSAI/ESPO). What is shown depends on the trace alone, so that old, new and reference weights see the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairuni.policies.decoding.sampling import scoring_temperature
from pairuni.policies.lumina_dimoo.model import LuminaDimoo, distinct, guided
from pairuni.policies.lumina_dimoo.traces import Kind, Trace, row_of


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A state of a trace. hidden, scored: [T], which tokens the model does not see, and which of them count."""

    hidden: Tensor
    scored: Tensor
    weight: float


@dataclass(frozen=True, kw_only=True)
class TraceReplay:
    """Each token scored in the state before the step that set it: one decision per token.

    shrink: steps that share a state; their tokens are all scored before the first of them. With 1 the log-probs are
    those of sampling; with more, fewer states are computed.
    """

    shrink: int = 1

    def __post_init__(self) -> None:
        if self.shrink < 1:
            raise ValueError(f"shrink is {self.shrink}, but must be at least 1.")

    def decisions(self, trace: Trace) -> int:
        return len(trace.choices)

    def states(self, rollouts: int, steps: int) -> int:
        """Different states of the traces of one task, each sampled in this number of steps; the first is the same."""
        return 1 + rollouts * (-(-steps // self.shrink) - 1)

    def views(self, trace: Trace) -> list[View]:
        steps = torch.unique(trace.steps, return_inverse=True)[1] // self.shrink
        groups = range(int(steps.max()) + 1)
        return [View(hidden=steps >= group, scored=steps == group, weight=1.0) for group in groups]

    def combine(self, values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
        """[T] log-probs of the tokens in their order."""
        places = torch.cat([view.scored.nonzero().squeeze(1) for view in views])
        return torch.cat(list(values))[places.argsort().to(values[0].device)]


@dataclass(frozen=True, kw_only=True)
class SequenceElbo:
    """An unbiased estimate of the evidence lower bound per token: one decision per trace.

    The bound of T tokens is the mean, over l uniform from 1 to T and masks of l tokens, of T / l times the summed
    log-probs of the masked tokens (LLaDA, arXiv:2502.09992). Masks come in coupled pairs, a mask and its
    complement, so that each pair scores every token once; l is drawn from 0 to T, which (T + 1) / T corrects, since an
    empty mask scores nothing. pairs: their number; their l are spread evenly. The value is the bound divided by T, as
    in the ratio of ESPO (arXiv:2512.03759).
    """

    pairs: int = 1

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ValueError(f"pairs is {self.pairs}, but must be at least 1.")

    def decisions(self, trace: Trace) -> int:
        return 1

    def states(self, rollouts: int, steps: int) -> int:
        """States of the traces of one task, at most; an empty mask is left out."""
        return 2 * self.pairs * rollouts

    def views(self, trace: Trace) -> list[View]:
        rng = np.random.default_rng(trace.mask_seed)
        length = len(trace.choices)
        shift = rng.random()
        found = []
        for pair in range(self.pairs):
            masked = int((pair + shift) / self.pairs * (length + 1))
            mask = torch.zeros(length, dtype=torch.bool)
            mask[torch.from_numpy(rng.permutation(length)[:masked])] = True
            for hidden in (mask, ~mask):
                if count := int(hidden.sum()):
                    weight = (length + 1) / (2 * self.pairs * count * length)
                    found.append(View(hidden=hidden, scored=hidden, weight=weight))
        return found

    def combine(self, values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
        """[1] the estimate."""
        terms = [view.weight * one.sum() for one, view in zip(values, views, strict=True)]
        return torch.stack(terms).sum(dim=0, keepdim=True)


Estimator = TraceReplay | SequenceElbo


def log_probs(
    model: LuminaDimoo, traces: Sequence[Trace], estimator: Estimator, *, checkpointing: bool = False
) -> list[Tensor]:
    """float32 log-probs [decisions] of each trace, in their order, with gradient; all in one packed forward pass.

    Each trace is scored with its own temperature, guidance and branch.
    """
    views = [estimator.views(trace) for trace in traces]
    flat = _flat(traces, views)
    features = _features(model, flat, checkpointing)
    values: list[Tensor] = [torch.empty(0)] * len(flat)
    heads: tuple[Kind, ...] = ("text", "codes")
    for kind in heads:
        some = [index for index, (trace, _) in enumerate(flat) if trace.kind == kind]
        if not some:
            continue
        head = model.text_head() if kind == "text" else model.code_head()
        counts = [len(features[index]) for index in some]
        temperatures = torch.tensor([scoring_temperature(flat[index][0].temperature) for index in some])
        scored = head.log_probs(
            torch.cat([features[index] for index in some]),
            torch.cat([trace.choices[view.scored] for trace, view in (flat[index] for index in some)]).to(
                model.device
            ),
            temperatures.repeat_interleave(torch.tensor(counts)).to(model.device),
        )
        for index, piece in zip(some, scored.split(counts), strict=True):
            values[index] = piece
    found, start = [], 0
    for several in views:
        found.append(estimator.combine(values[start : start + len(several)], several))
        start += len(several)
    return found


def replay_tokens(model: LuminaDimoo, traces: Sequence[Trace], estimator: Estimator) -> int:
    """Tokens of the forward pass of ``log_probs``, in which equal rows are computed once."""
    views = _flat(traces, [estimator.views(trace) for trace in traces])
    rows, _ = distinct([row for trace, view in views for row in _rows(model, trace, view)])
    return sum(len(row) for row in rows)


def _flat(traces: Sequence[Trace], views: Sequence[Sequence[View]]) -> list[tuple[Trace, View]]:
    return [(trace, view) for trace, several in zip(traces, views, strict=True) for view in several]


def _rows(model: LuminaDimoo, trace: Trace, view: View) -> list[Tensor]:
    """The rows of ids that show a state: the conditional one, and those of the branches that are scored."""
    shown = (~view.hidden).nonzero().squeeze(1)
    tokens = trace.choices[shown] + (model.ids.codes if trace.kind == "codes" else 0)
    prompts = (trace.prompt.ids, *(ids for ids, _ in trace.scored_branches))
    return [row_of(ids, trace.canvas, tokens, shown) for ids in prompts]


def _features(model: LuminaDimoo, views: Sequence[tuple[Trace, View]], checkpointing: bool) -> list[Tensor]:
    """Features [M_v, H] of the scored tokens of each view, with guidance where the branch is guided."""
    rows, wanted, counts = [], [], []
    for trace, view in views:
        places = trace.canvas.holes[: len(view.scored)][view.scored]
        for row in _rows(model, trace, view):
            rows.append(row)
            wanted.append(places + len(row) - len(trace.canvas.ids))
            counts.append(len(places))
    pieces = iter(model.states(rows, wanted, checkpointing=checkpointing).split(counts))
    found = []
    for trace, _ in views:
        conditional = next(pieces)
        found.append(guided(conditional, [(next(pieces), strength) for _, strength in trace.scored_branches]))
    return found
