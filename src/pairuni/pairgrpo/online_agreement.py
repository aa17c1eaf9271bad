"""Gradient agreement of a training step, from the gradients that the step computes anyway (arXiv:2510.25682)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from pairuni.distributed.strategy import Strategy
from pairuni.pairgrpo.agreement import cosines, group_of
from pairuni.training.seeding import derive_seed
from pairuni.training.shards import is_sharded, rows_of

COORDINATES = 1 << 16
"""Coordinates that are read of a parameter, of a smaller one all: the error depends on their number, not their share.

Of the 170 matrices of a model of 1B, that is 12 million numbers.
"""


class OnlineAgreement:
    """Estimates the cosine between the understanding and the generation gradient of a step.

    No second gradient is kept: of each parameter, a fixed sample of coordinates is read after the micro-batches of the
    first task, and once more after those of the second. A parameter of n coordinates, of which m are read, enters dot
    products and squared norms with weight n / m, which makes their estimates unbiased. The coordinates depend on the
    seed and on the parameter's name and shape alone, so a resumed run and all processes read the same ones.

    The gradients are those of the step's loss before clipping: with beta above 0, each includes the KL term of its own
    task, and a task's weight scales its gradient, which does not change the cosine.

    parameters: those that the optimizer updates (``NamedAdamW.masters``), after they were sharded. coordinates: how
    many are read of a parameter at most.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], *, seed: int, coordinates: int = COORDINATES
    ) -> None:
        self._groups = sorted({group_of(name) for name in parameters})
        places = {group: index for index, group in enumerate(self._groups)}
        self._coordinates: dict[str, Tensor] = {}
        self._dtypes = {name: parameter.dtype for name, parameter in parameters.items()}
        weights, groups = [], []
        for name, parameter in parameters.items():
            drawn = _drawn(parameter.numel(), coordinates, derive_seed(seed, zlib.crc32(name.encode())))
            weights.append(parameter.numel() / len(drawn))
            groups.append(places[group_of(name)])
            self._coordinates[name] = _of_rows(drawn, parameter).to(parameter.device)
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
                gradients[name].take(places)
                if name in gradients
                else places.new_zeros(len(places), dtype=self._dtypes[name])
                for name, places in self._coordinates.items()
            ]
        )

    def metrics(self, first: Tensor, both: Tensor, strategy: Strategy) -> dict[str, float]:
        """As ``agreement.cosines`` returns them; the same on all ranks. An exchange.

        first: what ``read`` returned after the micro-batches of the first task; both: after those of the second.
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
        return cosines(dict(zip(self._groups, sums.tolist(), strict=True)))


def _drawn(size: int, number: int, seed: int) -> Tensor:
    """Of ``size`` coordinates at most ``number``, ascending: one from each of as many equal intervals."""
    if size <= number:
        return torch.arange(size)
    within = torch.rand(number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = (torch.arange(number) + within) * (size / number)
    return drawn.long().clamp_(max=size - 1)


def _of_rows(coordinates: Tensor, parameter: Tensor) -> Tensor:
    """Those of the coordinates that lie in this rank's rows, counted from the first of its rows."""
    rows = rows_of(parameter)
    width = math.prod(rows.whole[1:])
    low, high = rows.start * width, (rows.start + rows.count) * width
    return coordinates[(coordinates >= low) & (coordinates < high)] - low
