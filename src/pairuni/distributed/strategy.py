"""How the gradients of several processes become those of one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pairuni.distributed.shares import shards_of
from pairuni.distributed.world import World


class Gradients(Protocol):
    """What a strategy sees of ``training.optimizer.NamedAdamW``."""

    masters: dict[str, Tensor]

    def gradients(self) -> Mapping[str, Tensor]: ...


class Shardable(Protocol):
    """What a strategy sees of a ``policies.UnifiedPolicy`` and of its reference."""

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None: ...


class Strategy(ABC):
    """Where weights, gradients and optimizer state are, over the processes of ``world``."""

    equal_micro_batches: bool
    """Whether forward and backward passes are exchanges, so that all ranks must replay as many micro-batches, each
    with the same tasks; ``micro_batches`` then adds rows of coefficient zero."""

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def place(self, model: Shardable) -> None:
        """Put a model where this strategy keeps its weights; call it once, before an optimizer holds them."""

    @abstractmethod
    def collect(self, optimizer: Gradients) -> None:
        """Call after the last micro-batch of an update: its gradients become those of the global batch."""

    @abstractmethod
    def sum_values(self, values: list[Tensor]) -> None:
        """Turn values that were read from the gradients before ``collect`` into those of the global batch, in place."""

    @abstractmethod
    def ranks_not_finite(self) -> list[int]:
        """Ranks whose own gradients of the last update had a value that is not finite. An exchange."""


class Replicate(Strategy):
    """Every rank holds everything. Gradients are summed once per update, so ranks may replay different numbers."""

    equal_micro_batches = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._finite: list[Tensor] = []

    def place(self, model: Shardable) -> None:
        return

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

    def sum_values(self, values: list[Tensor]) -> None:
        self.world.sum_tensors(values)

    def ranks_not_finite(self) -> list[int]:
        finite = all(bool(each) for each in self._finite)
        return [rank for rank, good in enumerate(self.world.gather(finite)) if not good]


class Shard(Strategy):
    """Weights, gradients and optimizer state are split over the ranks by FSDP2, which sums gradients as it goes.

    device: type of the ranks' devices. shard_size: ranks that hold one copy of the state; by default all. Raises
    ValueError if the number of ranks is not a multiple of it.
    """

    equal_micro_batches = True

    def __init__(
        self, world: World, device: str, *, reshard_after_forward: bool = True, shard_size: int | None = None
    ) -> None:
        super().__init__(world)
        size = shards_of(world.world_size, shard_size)
        self._reshard_after_forward = reshard_after_forward
        if size == world.world_size:
            self._mesh = init_device_mesh(device, (size,))
        else:
            shape = (world.world_size // size, size)
            self._mesh = init_device_mesh(device, shape, mesh_dim_names=("replicate", "shard"))

    def place(self, model: Shardable) -> None:
        model.shard(self._mesh, reshard_after_forward=self._reshard_after_forward)

    def collect(self, optimizer: Gradients) -> None:
        return

    def sum_values(self, values: list[Tensor]) -> None:
        return

    def ranks_not_finite(self) -> list[int]:
        return []  # the sum has already spread it to all
