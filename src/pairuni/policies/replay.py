"""Teacher forcing for autoregressive policies: log-probs of given tokens, with gradient, in one packed forward.

A prompt that several sequences share is computed once, and its gradient flows back from all of them: the same
numbers as running every sequence whole, at the cost of its own tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from pairuni.policies.llama import LlamaLayers

LOGITS_BUDGET = 128 << 20
"""Bytes of float32 logits that are held at once; beyond, they are computed in chunks, and again backward."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A prompt and the continuations that share it.

    prompt: embeddings [P, H]. continuations: embeddings [T_k - 1, H] of all tokens but the last, which
    nothing is predicted from.
    """

    prompt: Tensor
    continuations: Sequence[Tensor]


def packed_states(
    layers: LlamaLayers, groups: Sequence[Continuation], *, checkpointing: bool = False
) -> list[list[Tensor]]:
    """Hidden states that predict the tokens of each continuation, [T_k, H], in one forward of all tokens.

    The first state of each is the prompt's last. Sequences are packed without padding; attention alone sees
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
    """Groups of one shape: places in the packed tokens of prompts [G, P], of continuations [G K, T] and of
    what these attend to, [G K, P + T]. Padding repeats a row's first place; nothing real looks at it."""

    prompts: Tensor
    continuations: Tensor
    context: Tensor


class _Packing:
    """Where the groups lie in a packed [N, ...] matrix of tokens: prompt, continuations, prompt, ..."""

    def __init__(self, groups: Sequence[Continuation], device: torch.device) -> None:
        self.lengths: list[int] = []
        positions: list[Tensor] = []
        shapes: dict[tuple[int, int, int], list[tuple[Tensor, list[Tensor]]]] = {}
        start = 0
        for group in groups:
            prompt, counts = len(group.prompt), [len(one) for one in group.continuations]
            self.lengths += [prompt, *counts]
            positions += [torch.arange(prompt), *(torch.arange(prompt, prompt + count) for count in counts)]
            own = torch.arange(start, start + prompt + sum(counts)).split([prompt, *counts])
            shapes.setdefault((prompt, len(counts), max(counts)), []).append((own[0], list(own[1:])))
            start += prompt + sum(counts)
        places = torch.cat(positions)
        self.longest = int(places.max()) + 1
        self.positions = places.to(device)
        self._blocks: list[_Block] = []
        order = torch.empty(start, dtype=torch.long)
        end = 0
        for (_, rollouts, longest), members in shapes.items():
            prompts = torch.stack([prompt for prompt, _ in members])
            rows = [row for _, rows in members for row in rows]
            padded = torch.stack([_padded(row, longest) for row in rows])
            context = torch.cat([prompts.repeat_interleave(rollouts, dim=0), padded], dim=1)
            order[prompts.flatten()] = torch.arange(end, end + prompts.numel())
            end += prompts.numel()
            for index, row in enumerate(rows):
                order[row] = torch.arange(end + index * longest, end + index * longest + len(row))
            end += padded.numel()
            self._blocks.append(_Block(prompts.to(device), padded.to(device), context.to(device)))
        self._order = order.to(device)

    def attend(self, _: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Causal attention inside each sequence; [N, heads, D]."""
        gqa = queries.shape[1] != keys.shape[1]
        mixed = []
        for block in self._blocks:
            ask, key, value = (_rows(states, block.prompts) for states in (queries, keys, values))
            of_prompts = scaled_dot_product_attention(ask, key, value, is_causal=True, enable_gqa=gqa)
            mixed.append(of_prompts.transpose(1, 2).flatten(0, 1))
            if block.continuations.numel():
                of_rest = scaled_dot_product_attention(
                    _rows(queries, block.continuations),
                    _rows(keys, block.context),
                    _rows(values, block.context),
                    attn_mask=causal_lower_right(block.continuations.shape[1], block.context.shape[1]),
                    enable_gqa=gqa,
                )
                mixed.append(of_rest.transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed).flatten(1).index_select(0, self._order).view_as(queries)


def _rows(states: Tensor, places: Tensor) -> Tensor:
    """[N, heads, D] at places [B, S] -> [B, heads, S, D]; index_select has the faster backward."""
    chosen = states.flatten(1).index_select(0, places.flatten())
    return chosen.view(*places.shape, *states.shape[1:]).transpose(1, 2)


def _padded(row: Tensor, length: int) -> Tensor:
    return torch.cat([row, row[:1].expand(length - len(row))]) if len(row) else row.new_zeros(length)


def in_chunks(function: Callable[..., Tensor], rows: Sequence[Tensor], chunk: int) -> Tensor:
    """``function`` of row tensors [N, ...] -> [N], never of more than ``chunk`` rows at once.

    Where one chunk is not enough, the function's insides are not kept for the backward pass but computed
    again, chunk by chunk.
    """
    count = len(rows[0])
    if count <= chunk:
        return function(*rows)
    parts = [
        checkpoint(function, *part, use_reentrant=False)
        for part in zip(*(row.split(chunk) for row in rows), strict=True)
    ]
    return torch.cat(parts)


def chunk_rows(classes: int, branches: int = 1) -> int:
    """Rows whose float32 logits over ``classes`` fit ``LOGITS_BUDGET``."""
    return max(1, LOGITS_BUDGET // (4 * classes * branches))


def token_log_probs(logits: Tensor, tokens: Tensor, temperature: Tensor) -> Tensor:
    """float32 log softmax(logits / temperature) at the tokens. [N, V], [N], [N] -> [N]."""
    scaled = logits.float() / temperature.unsqueeze(1)
    return scaled.gather(1, tokens.unsqueeze(1)).squeeze(1) - torch.logsumexp(scaled, dim=-1)
