"""Output layers as sampling and scoring use them: a linear layer, or a part of its rows."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import linear


class Projection(Protocol):
    """Features [N, F] -> logits [N, V] by weight [V, F] and bias [V], such as ``nn.Linear``."""

    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor | None: ...

    def __call__(self, features: Tensor, /) -> Tensor: ...


class LinearRows:
    """Consecutive rows of a linear layer as a layer of their own: a part of a vocabulary.

    Reads the layer's current weights, without a copy and with gradient.
    """

    def __init__(self, layer: nn.Linear, first: int, count: int) -> None:
        self._layer, self._rows = layer, slice(first, first + count)

    @property
    def weight(self) -> Tensor:
        return self._layer.weight[self._rows]

    @property
    def bias(self) -> Tensor | None:
        return None if self._layer.bias is None else self._layer.bias[self._rows]

    def __call__(self, features: Tensor, /) -> Tensor:
        return linear(features, self.weight, self.bias)
