"""Full attention over rows of different lengths in one packed matrix of tokens, without padding.

The original pads rows and computes a bias for the padding, but its attention ignores the bias
(Alpha-VLLM/Lumina-DiMOO, ``model/modeling_llada.py``), so that padded rows change. Here nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class PackedRows:
    """Places of R rows in a packed [N, ...] matrix; rows of the same length follow each other.

    order: the rows in the order in which they are packed. starts: [R] the place of each row's first token, in the
    order that was given. positions: [N] position of each token in its row.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.order = sorted(range(len(lengths)), key=lengths.__getitem__)
        self.starts = [0] * len(lengths)
        self.longest = max(lengths, default=0)
        self._blocks: list[list[int]] = []
        end = 0
        for row in self.order:
            self.starts[row] = end
            end += lengths[row]
            if self._blocks and self._blocks[-1][1] == lengths[row]:
                self._blocks[-1][0] += 1
            else:
                self._blocks.append([1, lengths[row]])
        self.positions = torch.cat([torch.arange(length).repeat(batch) for batch, length in self._blocks])

    def attend(self, _: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Each token attends to all tokens of its row; [N, heads, D]. One call for all rows of a length."""
        sizes = [batch * length for batch, length in self._blocks]
        mixed = []
        for (batch, length), *parts in zip(
            self._blocks, queries.split(sizes), keys.split(sizes), values.split(sizes), strict=True
        ):
            query, key, value = (part.unflatten(0, (batch, length)).transpose(1, 2) for part in parts)
            states = scaled_dot_product_attention(
                query, key, value, enable_gqa=queries.shape[1] != keys.shape[1]
            )
            mixed.append(states.transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed)
