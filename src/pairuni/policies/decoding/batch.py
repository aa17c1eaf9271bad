"""A decode batch: rollouts decoded in lockstep, their tokens, stopping and compaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pairuni.policies.decoding.attention import prefix_suffix_attention
from pairuni.policies.decoding.cache import Geometry, KVCache, Layout, Workspace, put, round_up, take
from pairuni.policies.decoding.prefill import prefill
from pairuni.policies.decoding.requests import Request, Rollout
from pairuni.policies.decoding.sampling import sample_tokens, uniform_noise
from pairuni.policies.llama import Forward, LlamaLayers

STOP_CHECK = 16
"""Steps between two checks for stop tokens on an accelerator; each check waits for the device."""

_FREE = -1
"""In place of an id: the token of this step is sampled."""


class DecodeBatch:
    """G prompts with K rollouts each, all with the same number of tokens; R = branches G K rows.

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
        self.prompts = prompts
        self.owners = [(prompt, rollout) for prompt in prompts for rollout in rollouts]
        self.results: dict[tuple[int, int], Rollout] = {}
        self.filled = 0
        lengths = torch.tensor([branch[prompt] for branch in request.branch_lengths for prompt in prompts])
        self._lay_out(
            Geometry(
                branches=self.sampling.branches,
                groups=len(prompts),
                rollouts=len(rollouts),
                prefix_width=round_up(int(lengths.max()), self.device),
                capacity=round_up(max(self.sampling.steps - 1, 1), self.device),
            )
        )
        first, steps = request.first_prompt, self.sampling.steps
        noise = [
            uniform_noise(request.seed, request.stream, first + prompt, rollout, steps)
            for prompt, rollout in self.owners
        ]
        self.noise.copy_(torch.stack(noise))
        self.lengths.copy_(lengths)
        self.cache.mask_prefix(self.lengths)

    @property
    def rows(self) -> int:
        return self.geometry.rows

    @property
    def width(self) -> int:
        """Suffix positions that the next step reads."""
        return round_up(self.filled, self.device)

    @property
    def position(self) -> int | Tensor:
        """How many tokens each rollout has: a number, or a tensor [1] where steps are captured."""
        return self.count if self.static else self.filled

    def _lay_out(self, geometry: Geometry) -> None:
        self.geometry = geometry
        pairs, steps = geometry.groups * geometry.rollouts, self.sampling.steps
        own: Layout = {
            "lengths": ((geometry.prefixes,), torch.long),
            "noise": ((pairs, steps), torch.float64),
            "tokens": ((pairs, steps), torch.long),
            "log_probs": ((pairs, steps), torch.float32),
            "count": ((1,), torch.long),
            "kept": ((pairs, steps, self.request.kept_bytes), torch.uint8),
            "forced": ((steps if self.sampling.forced else 0,), torch.long),
        }
        tensors = self.workspace.lay_out({**KVCache.layout(self.layers, geometry), **own})
        self.cache = KVCache(self.layers, geometry, tensors)
        self.lengths, self.noise = tensors["lengths"], tensors["noise"]
        self.tokens, self.log_probs = tensors["tokens"], tensors["log_probs"]
        self.kept = tensors["kept"]
        self.count = tensors["count"].fill_(self.filled)
        self.forced = tensors["forced"].copy_(self._forced_ids())

    def _forced_ids(self) -> Tensor:
        """[steps] forced ids; empty where no step is forced."""
        forced = dict(self.sampling.forced)
        steps = range(self.sampling.steps if forced else 0)
        return torch.tensor([forced.get(step, _FREE) for step in steps], dtype=torch.long)

    def prefill(self, forward: Forward, rotary: Tensor) -> None:
        """Run the prompts and sample the first token of every rollout."""
        prompts = self.request.prompts(self.prompts)
        rows = [prompt.conditional for prompt in prompts]
        if self.sampling.guided:
            unconditional = [one.unconditional for one in prompts if one.unconditional is not None]
            assert len(unconditional) == len(rows), "guidance needs the unconditional prompt"
            rows += unconditional
        self.sample(prefill(forward, rows, self.cache, rotary))
        self.filled += 1

    # One step: begin_step, embed, attend in each layer, sample. Steps count on the device; `filled` counts on the
    # host, outside of captured steps.

    def begin_step(self, rotary: Tensor) -> Tensor:
        """Prepare cache and masks; returns rotary positions [2, R, D]."""
        self._last = self.position - 1
        self.cache.begin_step(self.width, self._last)
        positions = (self.lengths + self._last).repeat_interleave(self.geometry.rollouts)
        return rotary[:, positions]

    def embed(self) -> Tensor:
        """[R, H] embeddings of the last tokens."""
        embeds = self.request.embed(take(self.tokens, 1, self._last))
        return embeds.repeat(self.sampling.branches, 1)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[R, heads, D] of this step's queries over prefix and suffix, its own keys and values included."""
        cache = self.cache
        cache.update(layer, keys, values)
        return prefix_suffix_attention(
            queries, cache.layers[layer], cache.prefix_mask, cache.suffix_mask, self.layers.scale
        )

    def sample(self, states: Tensor) -> None:
        """Sample the next token of every rollout from the last hidden states, [R, H], or from those of the
        prompts, [prefixes, H]."""
        noise = take(self.noise, 1, self.position)
        chosen, scores, kept = sample_tokens(self.request.head, states, noise, self.sampling)
        if self.sampling.forced:
            forced = take(self.forced, 0, self.position)
            chosen = torch.where(forced == _FREE, chosen, forced)
            scores = scores.masked_fill(forced != _FREE, 0.0)
        put(self.tokens, 1, self.position, chosen)
        put(self.log_probs, 1, self.position, scores)
        if kept is not None:
            put(self.kept, 1, self.position, kept)
        self.count += 1

    # Stopping

    def ended(self) -> bool:
        """Whether every rollout has ended, in which case ``results`` is complete.

        Rows of ended rollouts leave the batch when at least half of it can go.
        """
        if self.filled == self.sampling.steps:
            self._finish(self._unfinished())
            return True
        if not self.sampling.stop_ids or (self.device.type != "cpu" and self.filled % STOP_CHECK):
            return False
        going = ~self._stops(self.tokens[:, : self.filled]).any(dim=1)
        groups, rollouts = self.geometry.groups, self.geometry.rollouts
        alive = going.view(groups, rollouts).sum(dim=1).tolist()
        if not any(alive):
            self._finish(self._unfinished())
            return True
        fewer_groups, fewer_rollouts = sum(count > 0 for count in alive), max(alive)
        if self.static:  # few shapes, so that captured steps are used again
            fewer_groups = min(_power_of_two(fewer_groups), groups)
            fewer_rollouts = min(_power_of_two(fewer_rollouts), rollouts)
        if 2 * fewer_groups * fewer_rollouts <= groups * rollouts:
            fullest = sorted(range(groups), key=lambda group: -alive[group])[:fewer_groups]
            self._compact(going, sorted(fullest), fewer_rollouts)
        return False

    def _stops(self, tokens: Tensor) -> Tensor:
        """Mask of the tokens, of any shape, that end a rollout."""
        stops = torch.zeros_like(tokens, dtype=torch.bool)
        for stop in self.sampling.stop_ids:
            stops |= tokens == stop
        return stops

    def _unfinished(self) -> list[int]:
        """Rows of the conditional branch that have no result yet."""
        return [row for row, owner in enumerate(self.owners) if owner not in self.results]

    def _finish(self, rows: Sequence[int]) -> None:
        tokens, log_probs = self.tokens[:, : self.filled].cpu(), self.log_probs[:, : self.filled].cpu()
        kept = self.kept[:, : self.filled].cpu() if self.sampling.truncates else None
        for row in rows:
            stops = self._stops(tokens[row]).nonzero().flatten().tolist()
            end = stops[0] + 1 if stops else self.filled
            self.results[self.owners[row]] = Rollout(
                tokens=tokens[row, :end].clone(),
                log_probs=log_probs[row, :end].clone(),
                kept=None if kept is None else kept[row, :end].clone(),
                finished=bool(stops),
            )

    def _compact(self, going: Tensor, groups: Sequence[int], rollouts: int) -> None:
        """Continue with these groups and ``rollouts`` rows of each, the unfinished ones first."""
        before = self.geometry
        self._finish([row for row in self._unfinished() if not going[row]])
        by_group = going.view(before.groups, before.rollouts)
        order = by_group.int().argsort(dim=1, descending=True, stable=True)[groups, :rollouts]
        chosen = torch.tensor(groups, device=self.device)
        pairs = (order + chosen[:, None] * before.rollouts).flatten()
        branches = torch.arange(before.branches, device=self.device)[:, None]
        prefixes = (chosen + branches * before.groups).flatten()
        rows = (pairs + branches * len(self.owners)).flatten()
        # copies, because the new layout overwrites the old one
        cache = self.cache.select(prefixes, rows, self.filled)
        lengths = self.lengths[prefixes]
        noise, tokens, log_probs = self.noise[pairs], self.tokens[pairs], self.log_probs[pairs]
        kept = self.kept[pairs]
        self.owners = [self.owners[row] for row in pairs.tolist()]
        self._lay_out(replace(before, groups=len(groups), rollouts=rollouts))
        self.cache.restore(cache)
        self.lengths.copy_(lengths)
        self.noise.copy_(noise)
        self.tokens.copy_(tokens)
        self.log_probs.copy_(log_probs)
        self.kept.copy_(kept)
        self.cache.mask_prefix(self.lengths)


def _power_of_two(count: int) -> int:
    """The smallest power of two that is at least ``count``."""
    return 1 << (count - 1).bit_length()
