"""Which prompts and rollouts of a request decode together, within memory and rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pairuni.devices import free_memory
from pairuni.policies.decoding.cache import round_up
from pairuni.policies.decoding.requests import Request
from pairuni.policies.llama import LlamaLayers

MEMORY_BUDGET = 8 << 30
"""Bytes of keys and values that rollouts on a CPU may hold; on a GPU the budget is the free memory."""

KEPT_SHARE = 0.1
"""Share of a GPU's memory: a loop that holds more frees it after a rollout, because the update needs it."""


def chunks(
    request: Request, memory: int, max_rows: int, layers: LlamaLayers
) -> list[tuple[list[int], range]]:
    """(prompts, rollouts) that decode together, within ``memory`` bytes and ``max_rows`` rows.

    Prompts of similar length share a chunk, and so do all rollouts of a prompt where they fit. A single rollout
    is never refused.
    """
    sampling = request.sampling
    order = sorted(range(len(request.lengths)), key=lambda prompt: (request.lengths[prompt], prompt))
    prefix, row = _bytes_of(request, layers)
    found: list[tuple[list[int], range]] = []
    most = min(max(max_rows // sampling.branches, 1), max(memory // max(row, 1), 1))
    if most < sampling.rollouts or prefix + sampling.rollouts * row > memory:
        rollouts = max(1, min(most, sampling.rollouts, (memory - prefix) // row))
        for prompt in order:
            found += [
                ([prompt], range(start, min(start + rollouts, sampling.rollouts)))
                for start in range(0, sampling.rollouts, rollouts)
            ]
        return found
    groups = max(1, min(most // sampling.rollouts, memory // (prefix + sampling.rollouts * row)))
    return [
        (order[start : start + groups], range(sampling.rollouts)) for start in range(0, len(order), groups)
    ]


def bytes_needed(request: Request, max_rows: int, layers: LlamaLayers) -> int:
    """Bytes of the largest chunk that ``max_rows`` allows."""
    sampling = request.sampling
    prefix, row = _bytes_of(request, layers)
    groups = max_rows // sampling.branches // sampling.rollouts
    return min(max(groups, 1), len(request.lengths)) * (prefix + sampling.rollouts * row)


def share_budget(needs: Sequence[int], budget: int) -> list[int]:
    """The share of each request: its need, or an equal part of what smaller needs leave."""
    granted = [0] * len(needs)
    order = sorted(range(len(needs)), key=needs.__getitem__)
    for done, place in enumerate(order):
        granted[place] = min(needs[place], budget // (len(needs) - done))
        budget -= granted[place]
    return granted


def free_bytes(device: torch.device, held: int) -> int:
    """Bytes that keys and values may take, counting the ``held`` ones of the loop's workspaces as free."""
    if device.type != "cuda":
        return MEMORY_BUDGET
    return int(0.8 * (free_memory(device) + held))


def kept_bytes(device: torch.device) -> float:
    """Bytes that a loop may hold between calls; no limit on a CPU."""
    if device.type != "cuda":
        return float("inf")
    return KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory


def _bytes_of(request: Request, layers: LlamaLayers) -> tuple[int, int]:
    """Bytes of the longest prompt, and of what one rollout adds."""
    token = layers.token_bytes * request.sampling.branches
    prefix = token * round_up(request.longest, layers.device)
    steps = request.sampling.steps
    return prefix, token * round_up(max(steps - 1, 1), layers.device) + steps * request.kept_bytes
