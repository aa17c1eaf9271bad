"""Teacher forcing for autoregressive policies: log-probs of given tokens, with gradient, in one packed forward.

A prompt that several sequences share is computed once, and receives gradient from all of them. The results equal those
of running every sequence in full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from pairuni.policies.decoding.truncation import unpack
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.projection import Projection

LOGITS_BUDGET = {"cpu": 32 << 20, "cuda": 256 << 20}
"""Bytes of float32 logits in memory at once; on a CPU about the size of its caches."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A prompt and the continuations that share it.

    prompt: embeddings [P, H]. continuations: embeddings [T_k - 1, H] of all tokens but the last, from which nothing is
    predicted.
    """

    prompt: Tensor
    continuations: Sequence[Tensor]


def packed_states(
    layers: LlamaLayers, groups: Sequence[Continuation], *, checkpointing: bool = False
) -> list[list[Tensor]]:
    """Hidden states that predict the tokens of each continuation, [T_k, H], in one forward pass of all tokens.

    The first state of each is the last of the prompt. Sequences are packed without padding; only attention works on
    padded blocks, one for all groups of the same shape.
    """
    packing = _Packing(groups, layers.device)
    rotary = layers.rotary(packing.longest)[:, packing.positions]
    embeds = torch.cat([row for group in groups for row in (group.prompt, *group.continuations)])
    states = layers.forward(embeds, rotary, packing.attend, checkpointing=checkpointing)
    pieces = iter(states.split(packing.lengths))
    found = []
    for group in groups:
        last = next(pieces)[-1:]
        found.append([torch.cat([last, next(pieces)]) for _ in group.continuations])
    return found


@dataclass(frozen=True)
class _Block:
    """One call of attention: ``batch`` sequences of ``length`` queries over ``context`` keys and values."""

    batch: int
    length: int
    context: int


class _Packing:
    """Positions of the groups in a packed [N, ...] matrix of tokens: prompt, continuations, prompt, ..."""

    def __init__(self, groups: Sequence[Continuation], device: torch.device) -> None:
        self.lengths: list[int] = []
        positions: list[Tensor] = []
        shapes: dict[tuple[int, int, int], list[list[Tensor]]] = {}
        start = 0
        for group in groups:
            prompt, counts = len(group.prompt), [len(one) for one in group.continuations]
            self.lengths += [prompt, *counts]
            positions += [torch.arange(prompt), *(torch.arange(prompt, prompt + count) for count in counts)]
            own = torch.arange(start, start + prompt + sum(counts)).split([prompt, *counts])
            shapes.setdefault((prompt, len(counts), max(counts)), []).append(list(own))
            start += prompt + sum(counts)
        packed = torch.cat(positions)
        self.longest = int(packed.max()) + 1
        self.positions = packed.to(device)
        self._lay_out(shapes, start, device)

    def _lay_out(
        self, shapes: dict[tuple[int, int, int], list[list[Tensor]]], total: int, device: torch.device
    ) -> None:
        """Which tokens the queries and the keys of each block are, and where each token's result is."""
        self._blocks: list[_Block] = []
        queries: list[Tensor] = []
        context: list[Tensor] = []
        order = torch.empty(total, dtype=torch.long)
        end = 0
        for (prompt, rollouts, longest), members in shapes.items():
            prompts = torch.stack([own[0] for own in members])
            rows = [row for own in members for row in own[1:]]
            padded = torch.stack([_padded(row, longest) for row in rows])
            order[prompts.flatten()] = torch.arange(end, end + prompts.numel())
            end += prompts.numel()
            for index, row in enumerate(rows):
                order[row] = torch.arange(end + index * longest, end + index * longest + len(row))
            end += padded.numel()
            queries += [prompts.flatten(), padded.flatten()]
            context.append(prompts.flatten())
            self._blocks.append(_Block(len(members), prompt, prompt))
            if longest:
                seen = torch.cat([prompts.repeat_interleave(rollouts, dim=0), padded], dim=1)
                context.append(seen.flatten())
                self._blocks.append(_Block(len(rows), longest, prompt + longest))
        self._queries, self._context = torch.cat(queries).to(device), torch.cat(context).to(device)
        self._order = order.to(device)

    def attend(self, _: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention within each sequence; [N, heads, D].

        One block for the prompts of a shape and one for their continuations, which attend to the prompt and to
        themselves. Padding repeats a row's first token; no real token attends to it.
        """
        gqa = queries.shape[1] != keys.shape[1]
        # one gather for all blocks, because each gather has a backward pass over all tokens
        all_queries = _gather(queries, self._queries).split(
            [block.batch * block.length for block in self._blocks]
        )
        sizes = [block.batch * block.context for block in self._blocks]
        all_keys, all_values = (_gather(states, self._context).split(sizes) for states in (keys, values))
        mixed = []
        for block, query, key, value in zip(self._blocks, all_queries, all_keys, all_values, strict=True):
            square = block.length == block.context
            states = scaled_dot_product_attention(
                query.unflatten(0, (block.batch, block.length)).transpose(1, 2),
                key.unflatten(0, (block.batch, block.context)).transpose(1, 2),
                value.unflatten(0, (block.batch, block.context)).transpose(1, 2),
                attn_mask=None if square else causal_lower_right(block.length, block.context),
                is_causal=square,
                enable_gqa=gqa,
            )
            mixed.append(states.transpose(1, 2).flatten(0, 1))
        return _gather(torch.cat(mixed), self._order)


def _gather(states: Tensor, places: Tensor) -> Tensor:
    """[N, heads, D] at positions [M]; the backward pass of index_select is faster than that of indexing."""
    return states.flatten(1).index_select(0, places).view(-1, *states.shape[1:])


def _padded(row: Tensor, length: int) -> Tensor:
    return torch.cat([row, row[:1].expand(length - len(row))]) if len(row) else row.new_zeros(length)


def linear_log_probs(
    features: Tensor, head: Projection, tokens: Tensor, temperature: Tensor, kept: Tensor | None = None
) -> Tensor:
    """float32 log softmax(head(features) / temperature) at the tokens; [N, F], [N], [N] -> [N].

    kept: [N, B] uint8, packed (``decoding.truncation``): the softmax is over these tokens alone, and the others have no
    gradient. Never holds [N, V]: logits exist one chunk at a time, in one buffer, and are recomputed in the backward
    pass.
    """
    values: Tensor = _LinearLogProbs.apply(features, head.weight, head.bias, tokens, temperature, kept)
    return values


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        temperature: Tensor,
        kept: Tensor | None,
    ) -> Tensor:
        values = torch.empty(len(features), dtype=torch.float32, device=features.device)
        norms = torch.empty_like(values)
        chunks = _Chunks(features, weight, bias, temperature, kept)
        for rows in chunks:
            scaled = chunks.scaled_logits(rows)
            norms[rows] = torch.logsumexp(scaled, dim=-1)
            values[rows] = scaled.gather(1, tokens[rows, None]).squeeze(1) - norms[rows]
        context.save_for_backward(features, weight, bias, tokens, temperature, kept, norms)
        return values

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, tokens, temperature, kept, norms = context.saved_tensors
        for_features, for_weight, for_bias = context.needs_input_grad[:3]
        slopes = upstream[0] / temperature
        to_features = torch.empty_like(features) if for_features else None
        # chunks are summed in full precision, as one large product would be
        full = torch.promote_types(weight.dtype, torch.float32)
        to_weight = torch.zeros_like(weight, dtype=full) if for_weight else None
        to_bias = torch.zeros_like(bias, dtype=full) if for_bias else None
        chunks = _Chunks(features, weight, bias, temperature, kept)
        for rows in chunks:
            scaled = chunks.scaled_logits(rows)
            # d log p_token / d logits = (one-hot - p) / temperature
            slope = scaled.sub_(norms[rows, None]).exp_().mul_(-slopes[rows, None])
            slope.scatter_add_(1, tokens[rows, None], slopes[rows, None].to(slope))
            low = slope.to(weight.dtype)
            if to_features is not None:
                torch.mm(low, weight, out=to_features[rows])
            if to_weight is not None:
                if full == weight.dtype:
                    to_weight.addmm_(low.T, features[rows])
                else:
                    to_weight += low.T @ features[rows]
            if to_bias is not None:
                to_bias += slope.sum(dim=0)
        return (
            to_features,
            None if to_weight is None else to_weight.to(weight.dtype),
            None if to_bias is None else to_bias.to(weight.dtype),
            None,
            None,
            None,
        )


class _Chunks:
    """Row ranges of features [N, F], whose logits share one buffer."""

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        temperature: Tensor,
        kept: Tensor | None,
    ) -> None:
        self.features, self.weight, self.bias = features, weight, bias
        self.temperature, self.kept = temperature, kept
        device, classes = features.device, len(weight)
        budget = LOGITS_BUDGET.get(device.type, LOGITS_BUDGET["cuda"])
        self.rows = max(1, min(len(features), budget // (4 * classes)))
        self.buffer = torch.empty(self.rows, classes, dtype=weight.dtype, device=device)

    def __iter__(self) -> Iterator[slice]:
        for start in range(0, len(self.features), self.rows):
            yield slice(start, min(start + self.rows, len(self.features)))

    def scaled_logits(self, rows: slice) -> Tensor:
        """Logits of these rows divided by their temperature, in float32 or finer; valid until the next call.

        Those of tokens that were not kept are -inf.
        """
        logits = self.buffer[: rows.stop - rows.start]
        if self.bias is None:
            torch.mm(self.features[rows], self.weight.T, out=logits)
        else:
            torch.addmm(self.bias, self.features[rows], self.weight.T, out=logits)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scaled = wide.div_(self.temperature[rows, None])
        if self.kept is not None:
            scaled.masked_fill_(~unpack(self.kept[rows], len(self.weight)), -torch.inf)
        return scaled
