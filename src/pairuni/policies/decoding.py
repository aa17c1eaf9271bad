"""The decode loop shared by autoregressive policies.

Each distinct prompt is prefilled once and its keys and values are repeated for its rollouts. Prompts of
different lengths share a batch by left padding, positions counted from the mask. Guided rows carry their
unconditional twin in the same batch. Softmax and sampling run in float32 or finer whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from pairuni.policies.policy import LogProbBranch


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """What a policy lends to the loop.

    backbone: a ``transformers`` decoder: inputs_embeds [N, S, H] -> last_hidden_state [N, S, H].
    head: hidden states [N, H] -> logits [N, V]. embed: token ids [N] -> input embeddings [N, H].
    """

    backbone: nn.Module
    head: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Input embeddings [P, H] of a prompt and of its unconditional twin; prompts that share a tensor share
    its prefill."""

    conditional: Tensor
    unconditional: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """tokens: [T] int64; log_probs: [T] float32; both on the CPU. finished: the stop token was reached."""

    tokens: Tensor
    log_probs: Tensor
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; guidance 1 means no unconditional rows at all."""

    rollouts: int
    steps: int
    temperature: float
    guidance: float = 1.0
    branch: LogProbBranch = "conditional"
    stop_id: int | None = None
    max_rows: int = 64

    def __post_init__(self) -> None:
        for name, low in (("rollouts", 1), ("steps", 1), ("max_rows", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least {low}.")
        for name in ("temperature", "guidance"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, but must be a finite number, 0 or larger.")
        if self.branch not in ("guided", "conditional"):
            raise ValueError(f"branch is {self.branch!r}, but must be 'guided' or 'conditional'.")

    @property
    def guided(self) -> bool:
        return self.guidance != 1.0


def scoring_temperature(temperature: float) -> float:
    """The temperature of the softmax that log-probs are taken of: greedy choices are scored at 1."""
    return temperature if temperature > 0 else 1.0


def guide(conditional: Tensor, unconditional: Tensor, guidance: float | Tensor) -> Tensor:
    """Classifier-free guidance u + g (c - u) of float32 logits, [..., V]; g a number or [..., 1]."""
    return unconditional + guidance * (conditional - unconditional)


def uniforms(seed: int, stream: int, prompt: int, rollout: int, steps: int) -> Tensor:
    """The noise of one trajectory: [steps] float64 in [0, 1), a function of the four integers alone."""
    return torch.from_numpy(np.random.default_rng([seed, stream, prompt, rollout]).random(steps))


def draw(log_probs: Tensor, noise: Tensor) -> Tensor:
    """Exact categorical draws by inverting the distribution function. [N, V] log-probs, [N] noise -> [N] ids.

    One uniform number a token, instead of a vector of V, is what lets every trajectory own its noise.
    """
    cumulative = log_probs.double().exp().cumsum(dim=-1)
    threshold = noise.unsqueeze(1).to(cumulative) * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    return ids.clamp(max=log_probs.shape[-1] - 1)


@torch.no_grad()
def decode(
    decoder: Decoder,
    lengths: Sequence[int],
    prompts: Callable[[Sequence[int]], Sequence[Prompt]],
    sampling: Sampling,
    *,
    seed: int,
    stream: int = 0,
) -> list[list[Rollout]]:
    """Sample ``sampling.rollouts`` continuations of each prompt; the outer list follows ``lengths``.

    lengths: the prompts' token counts. prompts: indices -> their embeddings, called chunk by chunk so that
    only the prompts at work are held. stream separates the noise of callers that share a seed.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must be 0 or larger.")
    results: list[list[Rollout]] = [[] for _ in lengths]
    for rows in _chunks(lengths, sampling):
        chosen = sorted({prompt for prompt, _ in rows})
        embedded = dict(zip(chosen, prompts(chosen), strict=True))
        noise = torch.stack([uniforms(seed, stream, *row, sampling.steps) for row in rows])
        chunk = _Chunk(decoder, [embedded[prompt] for prompt, _ in rows], noise, sampling)
        for (prompt, _), rollout in zip(rows, chunk.run(), strict=True):
            results[prompt].append(rollout)
    return results


def _chunks(lengths: Sequence[int], sampling: Sampling) -> Iterator[list[tuple[int, int]]]:
    """(prompt, rollout) rows in groups of bounded size, prompts of similar length together."""
    size = max(1, sampling.max_rows // (2 if sampling.guided else 1))
    if size > sampling.rollouts:
        size -= size % sampling.rollouts
    order = sorted(range(len(lengths)), key=lambda prompt: (lengths[prompt], prompt))
    rows = [(prompt, rollout) for prompt in order for rollout in range(sampling.rollouts)]
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


class _Chunk:
    """Rows decoded together: N conditional rows, then their N unconditional twins where guided."""

    def __init__(self, decoder: Decoder, rows: list[Prompt], noise: Tensor, sampling: Sampling) -> None:
        self.decoder, self.sampling = decoder, sampling
        prefixes = [row.conditional for row in rows]
        if sampling.guided:
            twins = [row.unconditional for row in rows]
            prefixes += [twin for twin in twins if twin is not None]
            assert len(prefixes) == 2 * len(rows), "guidance needs the unconditional prompt"
        self.device = prefixes[0].device
        self.noise = noise.to(self.device)
        self.hidden, self.cache, self.lengths = prefill(decoder.backbone, prefixes, sampling.steps - 1)
        width = self.cache.get_seq_length()
        slots = torch.arange(width + sampling.steps - 1, device=self.device)
        self.attended = (slots[None] >= (width - self.lengths)[:, None]).long()
        self.padded = bool((self.lengths < width).any())
        self.width = width

    def run(self) -> list[Rollout]:
        sampling, steps = self.sampling, self.sampling.steps
        total = len(self.noise)
        tokens = torch.zeros(total, steps, dtype=torch.long, device=self.device)
        log_probs = torch.zeros(total, steps, dtype=torch.float32, device=self.device)
        counts = torch.full((total,), steps, device=self.device)
        finished = torch.zeros(total, dtype=torch.bool, device=self.device)
        alive = torch.arange(total, device=self.device)
        for step in range(steps):
            chosen, scores = self._choose(self.noise[:, step])
            tokens[alive, step], log_probs[alive, step] = chosen, scores
            if sampling.stop_id is not None:
                stopped = (chosen == sampling.stop_id) & ~finished[alive]
                counts[alive[stopped]] = step + 1
                finished[alive[stopped]] = True
                running = (~finished[alive]).nonzero().squeeze(1)
                if len(running) == 0:
                    break
                if 2 * len(running) <= len(alive):
                    alive, chosen = alive[running], chosen[running]
                    self._keep(running)
            if step + 1 < steps:
                self._advance(chosen, step)
        ends, done = counts.tolist(), finished.tolist()
        tokens, log_probs = tokens.cpu(), log_probs.cpu()
        return [
            Rollout(
                tokens=tokens[row, :end].clone(), log_probs=log_probs[row, :end].clone(), finished=done[row]
            )
            for row, end in enumerate(ends)
        ]

    def _choose(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The next ids [N] and their float32 log-probs [N], from the current hidden states."""
        sampling = self.sampling
        logits = self.decoder.head(self.hidden).float()
        conditional = logits[: len(noise)]
        guided = (
            guide(conditional, logits[len(noise) :], sampling.guidance) if sampling.guided else conditional
        )
        temperature = scoring_temperature(sampling.temperature)
        policy = torch.log_softmax(guided / temperature, dim=-1)
        chosen = draw(policy, noise) if sampling.temperature > 0 else guided.argmax(dim=-1)
        if sampling.guided and sampling.branch == "conditional":
            policy = torch.log_softmax(conditional / temperature, dim=-1)
        return chosen, policy.gather(1, chosen.unsqueeze(1)).squeeze(1)

    def _advance(self, chosen: Tensor, step: int) -> None:
        embeds = self.decoder.embed(chosen)
        if self.sampling.guided:
            embeds = torch.cat([embeds, embeds])
        output = self.decoder.backbone(
            inputs_embeds=embeds.unsqueeze(1),
            attention_mask=self.attended[:, : self.width + step + 1] if self.padded else None,
            position_ids=(self.lengths + step).unsqueeze(1),
            past_key_values=self.cache,
            use_cache=True,
        )
        self.hidden = output.last_hidden_state[:, -1]

    def _keep(self, rows: Tensor) -> None:
        """Go on with these conditional rows (and their twins) alone: finished rows stop costing."""
        both = torch.cat([rows, rows + len(self.noise)]) if self.sampling.guided else rows
        self.noise = self.noise[rows]
        self.lengths, self.attended = self.lengths[both], self.attended[both]
        self.cache.batch_select_indices(both)


def prefill(backbone: nn.Module, prefixes: Sequence[Tensor], room: int) -> tuple[Tensor, Cache, Tensor]:
    """Run each distinct prefix [P_i, H] once, left-padded, and repeat its cache for the rows that share it.

    Returns the last hidden states [N, H], a cache of N rows with space for ``room`` more positions, and the
    prefix lengths [N].
    """
    distinct: list[Tensor] = []
    place: dict[int, int] = {}
    for prefix in prefixes:
        if id(prefix) not in place:
            place[id(prefix)] = len(distinct)
            distinct.append(prefix)
    device = prefixes[0].device
    index = torch.tensor([place[id(prefix)] for prefix in prefixes], device=device)
    lengths = torch.tensor([len(prefix) for prefix in distinct], device=device)
    embeds, attended = pad_left(distinct)
    grown = DynamicCache()
    output = backbone(
        inputs_embeds=embeds,
        attention_mask=attended if bool((attended == 0).any()) else None,
        position_ids=(attended.cumsum(dim=1) - 1).clamp(min=0),
        past_key_values=grown,
        use_cache=True,
    )
    layers = [ReservedLayer(layer.keys, layer.values, index, room) for layer in grown.layers]
    return output.last_hidden_state[:, -1][index], Cache(layers=layers), lengths[index]


def pad_left(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """[P_i, H] -> [N, P, H] with zeros in front, and the mask [N, P] that is 1 on real positions."""
    width = max(len(row) for row in rows)
    padded = rows[0].new_zeros(len(rows), width, rows[0].shape[1])
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=rows[0].device)
    for place, row in enumerate(rows):
        padded[place, width - len(row) :] = row
        mask[place, width - len(row) :] = 1
    return padded, mask


class ReservedLayer(DynamicLayer):
    """One layer's keys and values [N, heads, S, D] in a buffer reserved once; attention sees the filled part.

    ``DynamicLayer`` copies the whole cache at every step, ``StaticLayer`` attends to its unfilled end.
    """

    def __init__(self, keys: Tensor, values: Tensor, index: Tensor, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.filled = keys.shape[-2]
        self.buffers = [self._reserve(states, index, room) for states in (keys, values)]
        self.keys, self.values = keys, values
        self._show()

    @staticmethod
    def _reserve(states: Tensor, index: Tensor, room: int) -> Tensor:
        _, heads, filled, dim = states.shape
        buffer = states.new_empty(len(index), heads, filled + room, dim)
        buffer[:, :, :filled] = states[index]
        return buffer

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self.filled] for buffer in self.buffers)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        end = self.filled + key_states.shape[-2]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.filled : end] = states
        self.filled = end
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._show()
