"""How many tokens each step sets, and where: blocks of text, and pictures as a whole.

The numbers are those of the original code (Alpha-VLLM/Lumina-DiMOO, ``generators/text_understanding_generator.py``,
``generators/image_generation_generator.py``, ``utils/generation_utils.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Step:
    """Sets ``count`` of the holes first to last - 1 that are still open. ends_block: no such hole stays open."""

    first: int
    last: int
    count: int
    ends_block: bool


def text_steps(length: int, block: int, steps: int) -> list[Step]:
    """Blocks of tokens from left to right, each in steps / blocks steps of nearly equal counts.

    Steps that would set nothing are left out. Raises ValueError where blocks do not divide the length, or the blocks
    the steps.
    """
    if min(length, block, steps) < 1 or length % block or steps % (length // block):
        raise ValueError(
            f"An answer of {length} tokens in blocks of {block} and {steps} steps is impossible: the block must divide "
            "the length, and the number of blocks the steps."
        )
    blocks = length // block
    each, more = divmod(block, steps // blocks)
    counts = [each + (step < more) for step in range(steps // blocks)]
    counts = [count for count in counts if count]
    return [
        Step(start, start + block, count, ends_block=place == len(counts) - 1)
        for start in range(0, length, block)
        for place, count in enumerate(counts)
    ]


def answer_steps(length: int, block: int, steps: int) -> list[Step]:
    """``text_steps`` with ``steps`` steps in each block; a shorter last block has as many, at most one for a token."""
    whole, rest = divmod(length, block)
    found = text_steps(whole * block, block, whole * steps) if whole else []
    if rest:
        found += [
            Step(step.first + whole * block, step.last + whole * block, step.count, step.ends_block)
            for step in text_steps(rest, rest, steps)
        ]
    return found


def picture_steps(codes: int, steps: int) -> list[Step]:
    """The cosine schedule (MaskGIT, arXiv:2202.04200): after step i of n, cos(pi/2 i/n) of the codes are still open.

    At least one code is set in each step, and at most as many steps are made as there are codes.
    """
    if min(codes, steps) < 1:
        raise ValueError(
            f"A picture of {codes} codes in {steps} steps is impossible; both must be 1 or larger."
        )
    found = []
    still = codes
    for step in range(1, steps + 1):
        share = torch.cos(0.5 * math.pi * torch.tensor(step / steps))  # float32, as in the original
        keep = max(1, int(torch.floor(codes * share))) if step < steps else 0
        keep = min(keep, still - 1)
        found.append(Step(0, codes, still - keep, ends_block=keep == 0))
        still = keep
        if not still:
            break
    return found
