"""Gradient agreement of a training step, from the gradients that the step computes anyway (arXiv:2510.25682)."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pairuni.distributed.strategy import Strategy
from pairuni.training.seeding import derive_seed
from pairuni.training.shards import is_sharded, rows_of

COORDINATES = 1 << 16
"""Coordinates that are read of a parameter, of a smaller one all: the error depends on their number, not their share.

Of the 170 matrices of a model of 1B, that is 12 million numbers.
"""

_WRAPPER = re.compile(r"^(?:(?:base_model|model|module|language_model)\.)+(?=.)")
_LAYER = re.compile(r"^layers\.(\d+)\.")
_NAMES = {"embed_tokens": "embeddings"}


def group_of(name: str) -> str:
    """The part of the model that a parameter belongs to: ``layer_00`` for a decoder layer, else the module's name.

    ``model.language_model.layers.3.mlp.up_proj.weight`` is of ``layer_03``, ``model.generation_head.proj_out.bias`` of
    ``generation_head``, ``model.vision_model.encoder.layers.0.weight`` of ``vision_model``.
    """
    inner = _WRAPPER.sub("", name)
    if layer := _LAYER.match(inner):
        return f"layer_{int(layer[1]):02d}"
    part = inner.partition(".")[0]
    return _NAMES.get(part, part)


def cosine(dot: float, square: float, other_square: float) -> float | None:
    """Cosine of two vectors from their dot product and squared norms; None if one of them is zero."""
    if not (square > 0.0 and other_square > 0.0):
        return None
    return max(-1.0, min(1.0, dot / math.sqrt(square) / math.sqrt(other_square)))


class OnlineAgreement:
    """Estimates the cosine between the understanding and the generation gradient of a step.

    No second gradient is kept: of each parameter, a fixed sample of coordinates is read after the micro-batches of the
    first task, and once more after those of the second. A parameter of n coordinates, of which m are read, enters dot
    products and squared norms with weight n / m, which makes their estimates unbiased. The coordinates depend on the
    seed and on the parameter's name and shape alone, so a resumed run and all processes read the same ones.

    The gradients are those of the step's loss before clipping: with beta above 0, each includes the KL term of its own
    task, and a task's weight scales its gradient, which does not change the cosine.

    parameters: those that the optimizer updates (``NamedAdamW.masters``), after they were sharded.
    """

    def __init__(self, parameters: Mapping[str, Tensor], *, seed: int) -> None:
        self._groups = sorted({group_of(name) for name in parameters})
        places = {group: index for index, group in enumerate(self._groups)}
        self._coordinates: dict[str, Tensor] = {}
        self._zeros: dict[str, Tensor] = {}
        weights, groups = [], []
        for name, parameter in parameters.items():
            drawn = _drawn(parameter.numel(), derive_seed(seed, zlib.crc32(name.encode())))
            weights.append(parameter.numel() / len(drawn))
            groups.append(places[group_of(name)])
            own = _of_rows(drawn, parameter).to(parameter.device)
            self._coordinates[name] = own
            self._zeros[name] = torch.zeros(len(own), dtype=parameter.dtype, device=parameter.device)
        first = next(iter(parameters.values()))
        self._weights = torch.tensor(weights, dtype=torch.float64, device=first.device)
        self._of_group = torch.tensor(groups, device=first.device)
        # of what several ranks hold, one rank counts
        self._sharded = torch.tensor([is_sharded(one) for one in parameters.values()], device=first.device)
        self._first = torch.tensor([rows_of(one).first for one in parameters.values()], device=first.device)

    def read(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The sampled values of this rank's gradients (``NamedAdamW.gradients``), those of all parameters in a row."""
        return torch.cat(
            [
                gradients[name].take(coordinates) if name in gradients else self._zeros[name]
                for name, coordinates in self._coordinates.items()
            ]
        )

    def metrics(self, first: Tensor, both: Tensor, strategy: Strategy) -> dict[str, float]:
        """``gradient_agreement``, of all parameters, and ``gradient_agreement/<group>``; the same on all ranks.

        first: what ``read`` returned after the micro-batches of the first task; both: after those of the second.
        Where one of the two gradients is zero, there is no cosine, and the metric is left out. An exchange.
        """
        one, other = first, both - first
        strategy.sum_values([one, other])
        sizes = [len(own) for own in self._coordinates.values()]
        products = torch.stack(
            [
                torch.stack([a @ b, a @ a, b @ b])
                for a, b in (
                    (a.double(), b.double())
                    for a, b in zip(one.split(sizes), other.split(sizes), strict=True)
                )
            ]
        )
        counted = torch.where(self._sharded, self._first, strategy.world.is_main)
        products = products * (self._weights * counted)[:, None]
        by_group = torch.zeros(len(self._groups), 3, dtype=torch.float64, device=products.device)
        by_group.index_add_(0, self._of_group, products)
        sums = torch.stack(strategy.world.gather(by_group.cpu())).sum(dim=0)
        found = {"gradient_agreement": cosine(*sums.sum(dim=0).tolist())}
        for group, row in zip(self._groups, sums.tolist(), strict=True):
            found[f"gradient_agreement/{group}"] = cosine(*row)
        return {name: value for name, value in found.items() if value is not None}


def _drawn(size: int, seed: int) -> Tensor:
    """Coordinates of a parameter of ``size`` values, ascending: one from each of as many equal intervals."""
    if size <= COORDINATES:
        return torch.arange(size)
    within = torch.rand(COORDINATES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = (torch.arange(COORDINATES) + within) * (size / COORDINATES)
    return drawn.long().clamp_(max=size - 1)


def _of_rows(coordinates: Tensor, parameter: Tensor) -> Tensor:
    """Those of the coordinates that lie in this rank's rows, counted from the first of its rows."""
    rows = rows_of(parameter)
    width = math.prod(rows.whole[1:])
    low, high = rows.start * width, (rows.start + rows.count) * width
    return coordinates[(coordinates >= low) & (coordinates < high)] - low
