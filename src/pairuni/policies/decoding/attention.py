"""Attention of one decode step over a shared prefix and over each rollout's suffix."""

from __future__ import annotations

import torch
from torch import Tensor

from pairuni.policies.decoding.cache import LayerCache


def prefix_suffix_attention(
    queries: Tensor, cache: LayerCache, prefix_mask: Tensor, suffix_mask: Tensor, scale: float
) -> Tensor:
    """Attention of R queries [R, query heads, D] over prefix and suffix -> [R, query heads, D].

    One softmax over both parts, with two small matrix products for each: the K queries of a prompt share one
    product with its prefix, so that the prefix is read once. masks: added to the scores, [prefixes heads, 1, W]
    and [1, 1, width].
    """
    rows, query_heads, dim = queries.shape
    rollouts = len(cache.suffix_values) // len(cache.prefix_values)
    prefixes, width = rows // rollouts, prefix_mask.shape[-1]
    heads = len(cache.prefix_values) // prefixes
    shared = query_heads // heads  # query heads of one key-value head

    queries = queries.reshape(prefixes, rollouts, heads, shared * dim)
    of_prompt = queries.transpose(1, 2).reshape(-1, rollouts * shared, dim)
    to_prefix = torch.baddbmm(prefix_mask, of_prompt, cache.prefix_keys, alpha=scale)
    to_suffix = torch.baddbmm(suffix_mask, queries.reshape(-1, shared, dim), cache.suffix_keys, alpha=scale)
    scores = torch.cat(
        [
            to_prefix.view(prefixes, heads, rollouts, shared, -1),
            to_suffix.view(prefixes, rollouts, heads, shared, -1).transpose(1, 2),
        ],
        dim=-1,
    )
    weights = torch.softmax(scores, dim=-1)
    of_prompt = weights[..., :width].view(prefixes * heads, rollouts * shared, width)
    mixed = torch.bmm(of_prompt, cache.prefix_values).view(prefixes, heads, rollouts, shared, dim)
    of_rollout = weights[..., width:].transpose(1, 2).reshape(rows * heads, shared, -1)
    own = torch.bmm(of_rollout, cache.suffix_values).view(prefixes, rollouts, heads, shared, dim)
    return (own + mixed.transpose(1, 2)).view(rows, -1, dim)
