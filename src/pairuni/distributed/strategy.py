"""How the gradients of several processes become those of one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from pairuni.distributed.world import World


class Gradients(Protocol):
    """What a strategy sees of ``training.optimizer.NamedAdamW``."""

    masters: dict[str, Tensor]

    def gradients(self) -> Mapping[str, Tensor]: ...

    def gradient_norm(self) -> Tensor: ...


class Strategy(ABC):
    """Where weights, gradients and optimizer state are, over the processes of ``world``."""

    equal_micro_batches: bool
    """Whether forward and backward passes are exchanges, so that all ranks must replay as many micro-batches, each
    with the same tasks; ``micro_batches`` then adds rows of coefficient zero."""

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def collect(self, optimizer: Gradients) -> None:
        """Call after the last micro-batch of an update: its gradients become those of the global batch."""

    @abstractmethod
    def gradient_norm(self, optimizer: Gradients) -> Tensor:
        """Joint L2 norm of the global batch's gradients, a scalar, equal on all ranks."""

    @abstractmethod
    def ranks_not_finite(self) -> list[int]:
        """Ranks whose own gradients of the last update had a value that is not finite. An exchange."""


class Replicate(Strategy):
    """Every rank holds everything. Gradients are summed once per update, so ranks may replay different numbers."""

    equal_micro_batches = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._finite: list[Tensor] = []

    def collect(self, optimizer: Gradients) -> None:
        """Sum the gradients over the ranks; a parameter without one on some ranks counts as zero there."""
        if not self.world.several:
            return
        own = optimizer.gradients()
        anywhere = set().union(*self.world.gather(set(own)))
        names = [name for name in optimizer.masters if name in anywhere]
        for name in names:
            if name not in own:
                optimizer.masters[name].grad = torch.zeros_like(optimizer.masters[name])
        summed = optimizer.gradients()
        gradients = [summed[name] for name in names]
        # before the sum, which spreads it to all
        self._finite = [gradient.isfinite().all() for gradient in gradients]
        self.world.sum_tensors(gradients)

    def gradient_norm(self, optimizer: Gradients) -> Tensor:
        return optimizer.gradient_norm()

    def ranks_not_finite(self) -> list[int]:
        finite = all(bool(each) for each in self._finite)
        return [rank for rank, good in enumerate(self.world.gather(finite)) if not good]
