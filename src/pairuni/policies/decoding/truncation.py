"""Truncated sampling: which tokens top-k and top-p keep, and the distribution over them."""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = 8


def kept_tokens(log_probs: Tensor, top_k: int, top_p: float) -> Tensor:
    """[N, V] bool: the tokens that can be sampled, from log-probs [N, V] of the temperature-scaled softmax.

    Of the ``top_k`` most probable tokens (0: of all), the fewest whose probabilities, renormalised over them, add up to
    ``top_p``; at least one. Tokens as probable as the last of them are kept too, so that the order of ids has no
    influence.
    """
    if top_k:
        ranked = log_probs.topk(min(top_k, log_probs.shape[-1]), dim=-1).values
    else:
        ranked = log_probs.sort(dim=-1, descending=True).values
    last = ranked[:, -1:]
    if top_p < 1.0:
        probs = ranked.double().softmax(dim=-1)
        before = probs.cumsum(dim=-1) - probs
        count = (before < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
        last = ranked.gather(-1, count - 1)
    return log_probs >= last


def renormalised(log_probs: Tensor, kept: Tensor) -> Tensor:
    """Log-probs [N, V] of the distribution over the kept tokens alone; -inf elsewhere."""
    return log_probs.masked_fill(~kept, -torch.inf).log_softmax(dim=-1)


def packed_size(count: int) -> int:
    """Bytes of ``count`` packed flags."""
    return -(-count // _BITS)


def pack(flags: Tensor) -> Tensor:
    """[N, V] bool as [N, ceil(V / 8)] uint8."""
    missing = packed_size(flags.shape[-1]) * _BITS - flags.shape[-1]
    padded = torch.nn.functional.pad(flags, (0, missing)).unflatten(-1, (-1, _BITS)).to(torch.uint8)
    return (padded << _places(flags.device)).sum(dim=-1, dtype=torch.uint8)


def unpack(packed: Tensor, count: int) -> Tensor:
    """The first ``count`` flags of [N, B] uint8, as [N, count] bool."""
    flags = (packed.unsqueeze(-1) >> _places(packed.device)) & 1
    return flags.flatten(-2)[:, :count].bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(_BITS, dtype=torch.uint8, device=device)
