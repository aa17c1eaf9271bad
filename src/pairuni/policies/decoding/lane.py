"""Rollouts that are decoded in step: their memory of keys and values, and one step of attention and choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pairuni.policies.decoding.sampling import Head, Sampling, choose, uniforms
from pairuni.policies.llama import LlamaLayers

BUCKET = {"cpu": 16, "cuda": 64}
"""Positions of memory are read in multiples of this: BLAS likes whole vectors, a captured step few widths."""

_ALIGNMENT = 256


def rounded(length: int, device: torch.device) -> int:
    """``length`` rounded up to whole buckets."""
    bucket = BUCKET.get(device.type, 64)
    return -(-length // bucket) * bucket


def _power(count: int) -> int:
    """The smallest power of two that is at least ``count``."""
    return 1 << (count - 1).bit_length()


class Workspace:
    """Memory that is allocated once and laid out again for every lane; it only grows."""

    def __init__(self, device: torch.device) -> None:
        self.bytes = torch.empty(0, dtype=torch.uint8, device=device)

    def lay_out(self, tensors: Mapping[str, tuple[Sequence[int], torch.dtype]]) -> dict[str, Tensor]:
        """Uninitialised tensors of these shapes; whatever was laid out before is overwritten."""
        places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, (shape, dtype) in tensors.items():
            size = torch.Size(shape).numel() * dtype.itemsize
            places[name] = (end, end + size)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        if end > len(self.bytes):
            device = self.bytes.device
            self.bytes = torch.empty(0, dtype=torch.uint8, device=device)  # freed before the larger one
            self.bytes = torch.empty(end, dtype=torch.uint8, device=device)
        return {
            name: self.bytes[slice(*places[name])].view(dtype).view(*shape)
            for name, (shape, dtype) in tensors.items()
        }


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Input embeddings [P, H] of a prompt and of its unconditional twin, which is as long; prompts that share
    a tensor share its prefill."""

    conditional: Tensor
    unconditional: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Continuations that are asked of one head.

    embed: token ids [N] -> input embeddings [N, H].
    lengths: the prompts' token counts. prompts: indices -> their embeddings, called chunk by chunk so that
    only the prompts at work are held. stream separates the noise of requests that share a seed.
    """

    head: Head
    embed: Callable[[Tensor], Tensor]
    lengths: Sequence[int]
    prompts: Callable[[Sequence[int]], Sequence[Prompt]]
    sampling: Sampling
    seed: int
    stream: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be 0 or larger.")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """tokens: [T] int64; log_probs: [T] float32; both on the CPU. finished: the stop token was reached."""

    tokens: Tensor
    log_probs: Tensor
    finished: bool


@dataclass(frozen=True, kw_only=True)
class _LayerMemory:
    """Views of one layer's memory: of the prompts, [branches G heads, ...]; of what the next step reads of
    the rollouts, [R heads, ...]; and of where it writes, [R, heads, capacity, D]. Keys are transposed."""

    prefix_keys: Tensor
    prefix_values: Tensor
    suffix_keys: Tensor
    suffix_values: Tensor
    own_keys: Tensor
    own_values: Tensor


class Lane:
    """G prompts with K rollouts each, all of them at the same number of tokens.

    The keys and values of a prompt are held once for its K rollouts ("prefix"); what each rollout adds is its
    own ("suffix"). Rows are ordered by branch (conditional, then the unconditional twins), prompt, rollout:
    R = branches G K. Attention is over both parts at once, as two small matrix products each.

    static: count tokens on the device too, so that one captured step serves every position.
    """

    def __init__(
        self,
        request: Request,
        prompts: Sequence[int],
        rollouts: range,
        layers: LlamaLayers,
        workspace: Workspace,
        *,
        static: bool,
    ) -> None:
        self.request, self.layers, self.workspace, self.static = request, layers, workspace, static
        self.device, self.sampling = layers.device, request.sampling
        self.groups, self.rollouts = len(prompts), len(rollouts)
        self.owners = [(prompt, rollout) for prompt in prompts for rollout in rollouts]
        self.results: dict[tuple[int, int], Rollout] = {}
        self.prefix_width = rounded(max(request.lengths[prompt] for prompt in prompts), self.device)
        self.capacity = rounded(max(self.sampling.steps - 1, 1), self.device)
        self.filled = 0
        self._lay_out()
        noise = [uniforms(request.seed, request.stream, *owner, self.sampling.steps) for owner in self.owners]
        self.noise.copy_(torch.stack(noise))
        lengths = torch.tensor([request.lengths[prompt] for prompt in prompts])
        self.lengths.copy_(lengths.repeat(self.sampling.branches))
        self._mask_prefix()

    @property
    def rows(self) -> int:
        return self.sampling.branches * self.groups * self.rollouts

    @property
    def geometry(self) -> tuple[int, ...]:
        """What decides the shapes and the places of all tensors."""
        return (self.groups, self.rollouts, self.sampling.branches, self.prefix_width, self.capacity)

    @property
    def width(self) -> int:
        """Suffix positions that the next step reads."""
        return rounded(self.filled, self.device)

    def _lay_out(self) -> None:
        layers, sampling, dtype = self.layers, self.sampling, self.layers.dtype
        depth, heads, dim = layers.depth, layers.kv_heads, layers.head_dim
        prefixes, pairs = sampling.branches * self.groups, self.groups * self.rollouts
        prefix = (depth, prefixes * heads, self.prefix_width, dim)
        suffix = (depth, self.rows * heads, self.capacity, dim)
        memory = self.workspace.lay_out(
            {
                "prefix_keys": (prefix, dtype),
                "prefix_values": (prefix, dtype),
                "suffix_keys": (suffix, dtype),
                "suffix_values": (suffix, dtype),
                "prefix_mask": ((prefixes, heads, self.prefix_width), dtype),
                "lengths": ((prefixes,), torch.long),
                "noise": ((pairs, sampling.steps), torch.float64),
                "tokens": ((pairs, sampling.steps), torch.long),
                "log_probs": ((pairs, sampling.steps), torch.float32),
                "count": ((1,), torch.long),
            }
        )
        self.prefix_keys, self.prefix_values = memory["prefix_keys"], memory["prefix_values"]
        self.suffix_keys, self.suffix_values = memory["suffix_keys"], memory["suffix_values"]
        self.prefix_mask, self.lengths = memory["prefix_mask"], memory["lengths"]
        self._prefix_mask = self.prefix_mask.view(-1, 1, self.prefix_width)
        self.noise, self.tokens, self.log_probs = memory["noise"], memory["tokens"], memory["log_probs"]
        self.count = memory["count"]
        self.count.fill_(self.filled)
        self._views: list[_LayerMemory] = []
        # what attention masks has weight 0, and 0 times whatever the memory held before must be 0
        self.suffix_keys.zero_()
        self.suffix_values.zero_()

    def _mask_prefix(self) -> None:
        slots = torch.arange(self.prefix_width, device=self.device)
        self.prefix_mask.zero_()
        self.prefix_mask.masked_fill_(slots >= self.lengths[:, None, None], -torch.inf)

    # The way of one step: embed -> layers, with attend in each -> choose

    def embed(self) -> Tensor:
        """[R, H] embeddings of the last tokens."""
        embeds = self.request.embed(self._column(self.tokens, -1))
        return embeds.repeat(self.sampling.branches, 1)

    def begin_step(self, rotary: Tensor) -> Tensor:
        """Prepare the memory's views and the mask of the step; returns rotary positions [2, R, D]."""
        width = self.width
        if not self._views or self._views[0].suffix_values.shape[1] != width:
            self._views = [self._view(layer, width) for layer in range(self.layers.depth)]
        slots = torch.arange(width, device=self.device)
        if self.static:
            self._last = self.count - 1
        last = self._last if self.static else self.filled - 1
        self._suffix_mask = torch.zeros(1, 1, width, dtype=self.layers.dtype, device=self.device)
        self._suffix_mask.masked_fill_(slots > last, -torch.inf)
        positions = (self.lengths + last).repeat_interleave(self.rollouts)
        return rotary[:, positions]

    def _view(self, layer: int, width: int) -> _LayerMemory:
        heads, dim = self.layers.kv_heads, self.layers.head_dim
        keys, values = self.suffix_keys[layer], self.suffix_values[layer]
        return _LayerMemory(
            prefix_keys=self.prefix_keys[layer].transpose(1, 2),
            prefix_values=self.prefix_values[layer],
            suffix_keys=keys[:, :width].transpose(1, 2),
            suffix_values=values[:, :width],
            own_keys=keys.view(self.rows, heads, self.capacity, dim),
            own_values=values.view(self.rows, heads, self.capacity, dim),
        )

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[R, heads, D] of this step's queries over prefix and suffix, its own keys and values included."""
        memory, scale = self._views[layer], self.layers.scale
        rows, heads, dim = keys.shape
        shared, rollouts, width = queries.shape[1] // heads, self.rollouts, self.prefix_width
        prefixes = rows // rollouts
        self._store(memory.own_keys, keys)
        self._store(memory.own_values, values)

        queries = queries.reshape(prefixes, rollouts, heads, shared * dim)
        of_prompt = queries.transpose(1, 2).reshape(-1, rollouts * shared, dim)
        to_prefix = torch.baddbmm(self._prefix_mask, of_prompt, memory.prefix_keys, alpha=scale)
        to_suffix = torch.baddbmm(
            self._suffix_mask, queries.reshape(-1, shared, dim), memory.suffix_keys, alpha=scale
        )
        scores = torch.cat(
            [
                to_prefix.view(prefixes, heads, rollouts, shared, -1),
                to_suffix.view(prefixes, rollouts, heads, shared, -1).transpose(1, 2),
            ],
            dim=-1,
        )
        weights = torch.softmax(scores, dim=-1)
        of_prompt = weights[..., :width].view(prefixes * heads, rollouts * shared, width)
        mixed = torch.bmm(of_prompt, memory.prefix_values).view(prefixes, heads, rollouts, shared, dim)
        of_rollout = weights[..., width:].transpose(1, 2).reshape(rows * heads, shared, -1)
        own = torch.bmm(of_rollout, memory.suffix_values).view(prefixes, rollouts, heads, shared, dim)
        return (own + mixed.transpose(1, 2)).view(rows, -1, dim)

    def choose(self, states: Tensor) -> None:
        """Draw the next token of every rollout from the last hidden states, [R, H], or from those of the
        prompts, [branches G, H], which their rollouts share."""
        chosen, scores = choose(self.request.head, states, self._column(self.noise, 0), self.sampling)
        for memory, values in ((self.tokens, chosen), (self.log_probs, scores)):
            if self.static:
                memory.index_copy_(1, self.count, values.unsqueeze(1))
            else:
                memory[:, self.filled] = values

    def end_step(self) -> None:
        """Count the chosen token on the device; ``filled`` counts it on the host, outside of captured steps."""
        self.count += 1

    def _column(self, memory: Tensor, offset: int) -> Tensor:
        """[G K] of memory [G K, steps] at the number of chosen tokens + offset."""
        if self.static:
            return memory.index_select(1, self.count + offset).squeeze(1)
        return memory[:, self.filled + offset]

    def _store(self, memory: Tensor, states: Tensor) -> None:
        """Write [R, heads, D] to the last token's position of [R, heads, capacity, D]."""
        if self.static:
            memory.index_copy_(2, self._last, states.unsqueeze(2))
        else:
            memory[:, :, self.filled - 1] = states

    # Ends

    def ended(self) -> bool:
        """Whether every rollout is at its end; on an accelerator stop tokens are looked for now and then."""
        if self.filled == self.sampling.steps:
            self._finish(self.rollouts_left())
            return True
        if not self.sampling.stop_ids or (self.device.type != "cpu" and self.filled % 16):
            return False
        going = ~self._stops(self.tokens[:, : self.filled]).any(dim=1)
        alive = going.view(self.groups, self.rollouts).sum(dim=1).tolist()
        if not any(alive):
            self._finish(self.rollouts_left())
            return True
        groups, rollouts = sum(count > 0 for count in alive), max(alive)
        if self.static:  # few shapes, so that what was captured for one is met again
            groups, rollouts = min(_power(groups), self.groups), min(_power(rollouts), self.rollouts)
        if 2 * groups * rollouts <= self.groups * self.rollouts:
            fullest = sorted(range(self.groups), key=lambda place: -alive[place])[:groups]
            self._shrink(going, sorted(fullest), rollouts)
        return False

    def _stops(self, tokens: Tensor) -> Tensor:
        """Where tokens of any shape end a rollout."""
        if not self.sampling.stop_ids:
            return torch.zeros_like(tokens, dtype=torch.bool)
        first, *others = self.sampling.stop_ids
        stops = tokens == first
        for other in others:
            stops |= tokens == other
        return stops

    def rollouts_left(self) -> list[int]:
        """Rows of the conditional branch that have no result yet."""
        return [row for row, owner in enumerate(self.owners) if owner not in self.results]

    def _finish(self, rows: Sequence[int]) -> None:
        tokens, log_probs = self.tokens[:, : self.filled].cpu(), self.log_probs[:, : self.filled].cpu()
        for row in rows:
            stops = self._stops(tokens[row]).nonzero().flatten().tolist()
            end = stops[0] + 1 if stops else self.filled
            self.results[self.owners[row]] = Rollout(
                tokens=tokens[row, :end].clone(),
                log_probs=log_probs[row, :end].clone(),
                finished=bool(stops),
            )

    def _shrink(self, going: Tensor, groups: Sequence[int], rollouts: int) -> None:
        """Go on with these groups and with ``rollouts`` rows of each, those that still go on among them."""
        by_group = going.view(self.groups, self.rollouts)
        order = by_group.int().argsort(dim=1, descending=True, stable=True)[groups, :rollouts]
        kept = (order + torch.tensor(groups, device=self.device)[:, None] * self.rollouts).flatten()
        self._finish([row for row in self.rollouts_left() if not going[row]])
        rows = kept + torch.arange(self.sampling.branches, device=self.device)[:, None] * len(self.owners)
        prefixes = torch.tensor(groups, device=self.device)
        prefixes = prefixes + torch.arange(self.sampling.branches, device=self.device)[:, None] * self.groups
        saved = {
            "prefix_keys": self._of(self.prefix_keys, prefixes),
            "prefix_values": self._of(self.prefix_values, prefixes),
            "suffix_keys": self._of(self.suffix_keys[:, :, : self.filled], rows),
            "suffix_values": self._of(self.suffix_values[:, :, : self.filled], rows),
            "lengths": self.lengths[prefixes.flatten()],
            **{name: getattr(self, name)[kept] for name in ("noise", "tokens", "log_probs")},
        }
        self.owners = [self.owners[row] for row in kept.tolist()]
        self.groups, self.rollouts = len(groups), rollouts
        self._lay_out()
        for name, values in saved.items():
            memory = getattr(self, name)
            memory[:, :, : values.shape[2]].copy_(values) if values.ndim == 4 else memory.copy_(values)
        self._mask_prefix()

    def _of(self, memory: Tensor, sequences: Tensor) -> Tensor:
        """Memory [depth, sequences heads, S, D] of the chosen sequences alone."""
        depth, _, width, dim = memory.shape
        chosen = memory.view(depth, -1, self.layers.kv_heads, width, dim)[:, sequences.flatten()]
        return chosen.reshape(depth, -1, width, dim)
