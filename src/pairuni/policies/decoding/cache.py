"""The KV cache of a decode batch, and the memory that it is laid out in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pairuni.policies.llama import LlamaLayers

BUCKET = {"cpu": 16, "cuda": 64}
"""Cache widths are multiples of this: BLAS prefers full vectors, and CUDA graphs need few distinct widths."""

_ALIGNMENT = 256

Layout = Mapping[str, tuple[Sequence[int], torch.dtype]]
"""Tensors by name: their shape and dtype."""


def round_up(length: int, device: torch.device) -> int:
    """``length`` rounded up to a multiple of the device's bucket."""
    bucket = BUCKET.get(device.type, 64)
    return -(-length // bucket) * bucket


class Workspace:
    """A buffer that is allocated once and laid out again for every decode batch; it only grows."""

    def __init__(self, device: torch.device) -> None:
        self.bytes = torch.empty(0, dtype=torch.uint8, device=device)

    def lay_out(self, layout: Layout) -> dict[str, Tensor]:
        """Uninitialised tensors in the buffer, which overwrite those of the layout before."""
        places: dict[str, tuple[int, int]] = {}
        end = 0
        for name, (shape, dtype) in layout.items():
            size = torch.Size(shape).numel() * dtype.itemsize
            places[name] = (end, end + size)
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        if end > len(self.bytes):
            device = self.bytes.device
            self.bytes = torch.empty(0, dtype=torch.uint8, device=device)  # freed before the larger one
            self.bytes = torch.empty(end, dtype=torch.uint8, device=device)
        return {
            name: self.bytes[slice(*places[name])].view(dtype).view(*shape)
            for name, (shape, dtype) in layout.items()
        }


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What decides the shape and the address of every tensor of a decode batch.

    Sequences are ordered by branch (conditional, then unconditional), prompt, rollout.
    """

    branches: int
    groups: int
    rollouts: int
    prefix_width: int
    capacity: int

    @property
    def prefixes(self) -> int:
        return self.branches * self.groups

    @property
    def rows(self) -> int:
        """Sequences that pass the layers in each step, R."""
        return self.prefixes * self.rollouts


@dataclass(frozen=True, kw_only=True)
class LayerCache:
    """Views of one layer: the prompts and the rollouts as attention reads them, keys transposed, and the suffix
    as it is written, [R, heads, capacity, D]."""

    prefix_keys: Tensor
    prefix_values: Tensor
    suffix_keys: Tensor
    suffix_values: Tensor
    written_keys: Tensor
    written_values: Tensor


class KVCache:
    """Keys and values of the prompts, once for all their rollouts ("prefix"), and of each rollout ("suffix").

    tensors: those of ``layout``, in a workspace. All rollouts have the same number of tokens.
    """

    def __init__(self, layers: LlamaLayers, geometry: Geometry, tensors: Mapping[str, Tensor]) -> None:
        self.geometry, self._layers = geometry, layers
        self._tensors = {name: tensors[name] for name in self.layout(layers, geometry)}
        self.prefix_mask = tensors["prefix_mask"].view(-1, 1, geometry.prefix_width)
        self.suffix_mask = torch.empty(0)
        self.layers: list[LayerCache] = []
        self._last: int | Tensor = 0
        # masked positions have weight 0, and 0 times an uninitialised value must be 0
        tensors["suffix_keys"].zero_()
        tensors["suffix_values"].zero_()

    @staticmethod
    def layout(layers: LlamaLayers, geometry: Geometry) -> Layout:
        """prefix: [depth, prefixes heads, prefix width, D]; suffix: [depth, R heads, capacity, D]."""
        depth, heads, dim, dtype = layers.depth, layers.kv_heads, layers.head_dim, layers.dtype
        prefix = (depth, geometry.prefixes * heads, geometry.prefix_width, dim)
        suffix = (depth, geometry.rows * heads, geometry.capacity, dim)
        return {
            "prefix_keys": (prefix, dtype),
            "prefix_values": (prefix, dtype),
            "suffix_keys": (suffix, dtype),
            "suffix_values": (suffix, dtype),
            "prefix_mask": ((geometry.prefixes, heads, geometry.prefix_width), dtype),
        }

    def mask_prefix(self, lengths: Tensor) -> None:
        """Hide the padding of prompts of these lengths, [prefixes]."""
        mask = self._tensors["prefix_mask"]
        slots = torch.arange(self.geometry.prefix_width, device=mask.device)
        mask.zero_()
        mask.masked_fill_(slots >= lengths[:, None, None], -torch.inf)

    def fill_prefix(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keys and values of the prompts, [prefixes, heads, prefix width, D], zeros on padding."""
        self._tensors["prefix_keys"][layer].copy_(keys.flatten(0, 1))
        self._tensors["prefix_values"][layer].copy_(values.flatten(0, 1))

    def begin_step(self, width: int, last: int | Tensor) -> None:
        """Show ``width`` suffix positions to attention, those after ``last`` masked; ``update`` writes to ``last``."""
        if not self.layers or self.layers[0].suffix_values.shape[1] != width:
            self.layers = [self._views(layer, width) for layer in range(self._layers.depth)]
        device = self.prefix_mask.device
        slots = torch.arange(width, device=device)
        self.suffix_mask = torch.zeros(1, 1, width, dtype=self._layers.dtype, device=device)
        self.suffix_mask.masked_fill_(slots > last, -torch.inf)
        self._last = last

    def update(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write this step's keys and values, [R, heads, D]."""
        put(self.layers[layer].written_keys, 2, self._last, keys)
        put(self.layers[layer].written_values, 2, self._last, values)

    def select(self, prefixes: Tensor, rows: Tensor, filled: int) -> dict[str, Tensor]:
        """Copies of some prompts and of the first ``filled`` positions of some rows."""
        return {
            "prefix_keys": self._of("prefix_keys", prefixes),
            "prefix_values": self._of("prefix_values", prefixes),
            "suffix_keys": self._of("suffix_keys", rows, filled),
            "suffix_values": self._of("suffix_values", rows, filled),
        }

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Copy in what ``select`` of a larger cache returned."""
        for name, values in saved.items():
            self._tensors[name][:, :, : values.shape[2]].copy_(values)

    def _views(self, layer: int, width: int) -> LayerCache:
        tensors, geometry = self._tensors, self.geometry
        keys, values = tensors["suffix_keys"][layer], tensors["suffix_values"][layer]
        written = (geometry.rows, self._layers.kv_heads, geometry.capacity, self._layers.head_dim)
        return LayerCache(
            prefix_keys=tensors["prefix_keys"][layer].transpose(1, 2),
            prefix_values=tensors["prefix_values"][layer],
            suffix_keys=keys[:, :width].transpose(1, 2),
            suffix_values=values[:, :width],
            written_keys=keys.view(written),
            written_values=values.view(written),
        )

    def _of(self, name: str, sequences: Tensor, filled: int | None = None) -> Tensor:
        memory = self._tensors[name][:, :, :filled]
        depth, _, width, dim = memory.shape
        chosen = memory.view(depth, -1, self._layers.kv_heads, width, dim)[:, sequences]
        return chosen.reshape(depth, -1, width, dim)


def take(memory: Tensor, dim: int, position: int | Tensor) -> Tensor:
    """The slice of ``memory`` at a position of ``dim``: a number, or in a captured step a tensor [1]."""
    if isinstance(position, Tensor):
        return memory.index_select(dim, position).squeeze(dim)
    return memory.select(dim, position)


def put(memory: Tensor, dim: int, position: int | Tensor, values: Tensor) -> None:
    """Write the slice that ``take`` reads."""
    if isinstance(position, Tensor):
        memory.index_copy_(dim, position, values.unsqueeze(dim))
    else:
        memory.select(dim, position).copy_(values)
