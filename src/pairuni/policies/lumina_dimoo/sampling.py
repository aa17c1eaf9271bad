"""Sampling from Lumina-DiMOO: all open positions are predicted at once, and the most confident predictions are kept.

Text is filled in blocks from left to right (LLaDA, arXiv:2502.09992), pictures by the cosine schedule of MaskGIT
(arXiv:2202.04200) with Gumbel noise on the confidence. The confidence is the probability at temperature 1, as in the
original code (Alpha-VLLM/Lumina-DiMOO, ``generators/``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pairuni.policies.decoding.sampling import sample_categorical, scoring_temperature
from pairuni.policies.llama import Forward
from pairuni.policies.lumina_dimoo.model import LuminaDimoo, OutputHead, guided
from pairuni.policies.lumina_dimoo.traces import Kind, Task, Trace, row_of
from pairuni.policies.replay import LOGITS_BUDGET

MAX_TOKENS = 1 << 14
"""Tokens of one forward pass, unless a single row has more."""


@torch.no_grad()
def sample(
    model: LuminaDimoo, tasks: Sequence[Task], rollouts: int | Sequence[int], *, max_tokens: int = MAX_TOKENS
) -> list[list[Trace]]:
    """``rollouts`` traces of each task, or a number of its own for each, in order.

    Texts and pictures may be mixed; they decode in the same passes.

    A trace depends on its task and on its number among the rollouts, not on how rows are batched.
    """
    counts = [rollouts] * len(tasks) if isinstance(rollouts, int) else rollouts
    rows = [
        [_Row(task, rollout, model.ids.codes) for rollout in range(count)]
        for task, count in zip(tasks, counts, strict=True)
    ]
    waiting = [row for group in rows for row in group]
    if waiting:
        forward = model.layers.inference(min(max_tokens, sum(row.tokens for row in waiting)))
        step = 0
        while waiting := [row for row in waiting if not row.finished]:
            for batch in _batches(waiting, max_tokens):
                _advance(model, batch, step, forward)
            step += 1
    return [[row.trace() for row in group] for group in rows]


class _Row:
    """One rollout that is being sampled."""

    def __init__(self, task: Task, rollout: int, first_code: int) -> None:
        self.task = task
        self.finished = False
        self._first = first_code if task.kind == "codes" else 0
        self._noise = noise_of(*task.noise, rollout)
        self._mask_seed = int(self._noise.integers(2**63))
        self._choices = torch.full((len(task.canvas.holes),), -1)
        self._steps = torch.zeros_like(self._choices)
        self._log_probs = torch.zeros(len(self._choices))
        self._length = len(self._choices)

    @property
    def tokens(self) -> int:
        """Tokens of one forward pass."""
        task = self.task
        prompts = (task.prompt.ids, *(ids for ids, _ in task.prompt.unconditional))
        return sum(len(ids) + len(task.canvas.ids) for ids in prompts)

    def open(self, step: int) -> Tensor:
        """[M] numbers of the holes that this step may set."""
        scope = self.task.steps[step]
        return (self._choices[scope.first : scope.last] < 0).nonzero().squeeze(1) + scope.first

    def rows(self) -> list[Tensor]:
        """The conditional row of ids and the unconditional ones."""
        task, holes = self.task, (self._choices >= 0).nonzero().squeeze(1)
        tokens = self._choices[holes] + self._first
        prompts = (task.prompt.ids, *(ids for ids, _ in task.prompt.unconditional))
        return [row_of(ids, task.canvas, tokens, holes) for ids in prompts]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Noise [count] of the choices, in [0, 1), and what is added to the log-confidence."""
        uniform = torch.from_numpy(self._noise.random(count))
        if self.task.kind == "text":
            return uniform, torch.zeros(count, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(torch.from_numpy(self._noise.random(count))))
        return uniform, self.task.temperature * gumbel

    def keep(self, step: int, choices: Tensor, log_probs: Tensor, confidence: Tensor) -> None:
        """Set the most confident of the open holes; [M] each, in the order of ``open``."""
        scope = self.task.steps[step]
        best = confidence.sort(descending=True, stable=True).indices[: scope.count]
        holes = self.open(step)[best]
        self._choices[holes], self._log_probs[holes] = choices[best], log_probs[best].float()
        self._steps[holes] = step
        if scope.ends_block:
            ended = torch.isin(self._choices[: scope.last], torch.tensor(self.task.stop_ids)).any()
            if ended or step == len(self.task.steps) - 1:
                self.finished, self._length = True, scope.last

    def trace(self) -> Trace:
        task, length = self.task, self._length
        return Trace(
            kind=task.kind,
            prompt=task.prompt,
            canvas=task.canvas,
            choices=self._choices[:length],
            steps=self._steps[:length],
            log_probs=self._log_probs[:length],
            temperature=float(task.temperature),
            branch=task.branch,
            mask_seed=self._mask_seed,
        )


def noise_of(*key: int) -> np.random.Generator:
    """The randomness of one rollout, a function of these integers alone."""
    return np.random.default_rng(key)


def _batches(rows: Sequence[_Row], max_tokens: int) -> Iterator[list[_Row]]:
    """Rows for one forward pass each."""
    batch: list[_Row] = []
    tokens = 0
    for row in rows:
        if batch and tokens + row.tokens > max_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += row.tokens
    yield batch


def _advance(model: LuminaDimoo, rows: Sequence[_Row], step: int, forward: Forward) -> None:
    """One step of every row, all in one forward pass."""
    inputs, wanted, counts = [], [], []
    for row in rows:
        holes = row.open(step)
        places = row.task.canvas.holes[holes]
        branches = row.rows()
        inputs += branches
        wanted += [places + len(ids) - len(row.task.canvas.ids) for ids in branches]
        counts += [len(holes)] * len(branches)
    pieces = iter(model.states(inputs, wanted, forward=forward).split(counts))
    features = {}
    for row in rows:
        conditional = next(pieces)
        strengths = [strength for _, strength in row.task.prompt.unconditional]
        features[row] = (conditional, guided(conditional, [(next(pieces), one) for one in strengths]))
    kinds: tuple[tuple[Kind, OutputHead], ...] = (("text", model.text_head()), ("codes", model.code_head()))
    for kind, head in kinds:
        if some := [row for row in rows if row.task.kind == kind]:
            _decide(head, some, step, [features[row] for row in some])


def _decide(
    head: OutputHead, rows: Sequence[_Row], step: int, features: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Choose tokens for all open positions of rows of one kind, and keep the most confident ones.

    features: conditional and guided [M_r, H] of each row. Logits exist one chunk of positions at a time.
    """
    counts = [len(conditional) for conditional, _ in features]
    draws = [row.draw(count) for row, count in zip(rows, counts, strict=True)]
    device = features[0][0].device
    flat = _Positions(
        conditional=torch.cat([one for one, _ in features]),
        guided=torch.cat([one for _, one in features]),
        uniform=torch.cat([uniform for uniform, _ in draws]).to(device),
        temperature=_spread([scoring_temperature(row.task.temperature) for row in rows], counts, device),
        greedy=_spread([row.task.temperature == 0 for row in rows], counts, device),
        by_condition=_spread([row.task.branch == "conditional" for row in rows], counts, device),
    )
    budget = LOGITS_BUDGET.get(device.type, LOGITS_BUDGET["cuda"])
    chunk = max(1, budget // (4 * len(head.weight)))
    found = [flat.choose(head, slice(start, start + chunk)) for start in range(0, sum(counts), chunk)]
    choices, log_probs, confidence = (
        torch.cat(parts).cpu().split(counts) for parts in zip(*found, strict=True)
    )
    for place, (row, (_, jitter)) in enumerate(zip(rows, draws, strict=True)):
        row.keep(step, choices[place], log_probs[place], confidence[place].double() + jitter)


class _Positions:
    """Open positions of many rows: features [M, H] and settings [M]."""

    def __init__(
        self,
        *,
        conditional: Tensor,
        guided: Tensor,
        uniform: Tensor,
        temperature: Tensor,
        greedy: Tensor,
        by_condition: Tensor,
    ) -> None:
        self.conditional, self.guided, self.uniform = conditional, guided, uniform
        self.temperature, self.greedy, self.by_condition = temperature, greedy, by_condition

    def choose(self, head: OutputHead, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Choices, their log-probs, and their log-probs at temperature 1 by which they are kept; [n] each."""
        logits = head.logits(self.guided[rows])
        temperature, greedy = self.temperature[rows, None], self.greedy[rows]
        policy = torch.log_softmax(logits / temperature, dim=-1)
        choices = policy.argmax(dim=-1)
        if not greedy.all():
            sampled = sample_categorical(policy, self.uniform[rows])
            choices = torch.where(greedy, choices, sampled)
        confidence = torch.log_softmax(logits, dim=-1).gather(1, choices[:, None]).squeeze(1)
        log_probs = policy.gather(1, choices[:, None]).squeeze(1)
        by_condition = self.by_condition[rows]
        if by_condition.any():
            table = torch.log_softmax(head.logits(self.conditional[rows]) / temperature, dim=-1)
            log_probs = torch.where(by_condition, table.gather(1, choices[:, None]).squeeze(1), log_probs)
        return choices, log_probs, confidence


def _spread(values: Sequence[float | bool], counts: Sequence[int], device: torch.device) -> Tensor:
    """One value of each row for all of its positions."""
    return torch.tensor(values).repeat_interleave(torch.tensor(counts)).to(device)
