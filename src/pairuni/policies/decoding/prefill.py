"""Prefill: one forward pass of a decode batch's prompts fills the prefix of its cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pairuni.policies.decoding.cache import KVCache
from pairuni.policies.llama import Forward


def prefill(forward: Forward, prompts: Sequence[Tensor], cache: KVCache, rotary: Tensor) -> Tensor:
    """Fill the cache's prefix from embeddings [P, H] of each prompt; returns their last states, [prefixes, H].

    A tensor that occurs several times is computed once. Sequences are padded on the right, where causal attention
    never reads; the cache's mask hides the padding later.
    """
    width = cache.geometry.prefix_width
    distinct = {id(prompt): prompt for prompt in prompts}
    place = {key: index for index, key in enumerate(distinct)}
    device = rotary.device
    owner = torch.tensor([place[id(prompt)] for prompt in prompts], device=device)
    sequences = list(distinct.values())
    lengths = [len(sequence) for sequence in sequences]
    assert max(lengths) <= width
    real = torch.arange(width, device=device) < torch.tensor(lengths, device=device)[:, None]

    def padded(states: Tensor) -> Tensor:
        """[tokens, heads, D] -> [sequences, heads, W, D], zeros on padding."""
        filled = states.new_zeros(*real.shape, *states.shape[1:])
        filled[real] = states
        return filled.transpose(1, 2)

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        wide_keys, wide_values = padded(keys), padded(values)
        cache.fill_prefix(layer, wide_keys[owner], wide_values[owner])
        gqa = queries.shape[1] != keys.shape[1]
        mixed = scaled_dot_product_attention(
            padded(queries), wide_keys, wide_values, is_causal=True, enable_gqa=gqa
        )
        return mixed.transpose(1, 2)[real]

    positions = torch.cat([rotary[:, :length] for length in lengths], dim=1)
    states = forward(torch.cat(sequences), positions, attend)
    last = torch.tensor(lengths, device=device).cumsum(0) - 1
    return states[last][owner]
