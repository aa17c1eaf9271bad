"""Tensors in files, whole or a part from each process, without pickles.

A tensor that FSDP2 shards along its first dimension is a DTensor, of which each rank holds consecutive rows, possibly
none. A rank's rows go to a safetensors file of its own, whose header says where they belong. The header is that of
``torch.distributed.checkpoint.HuggingFaceStorageWriter``, so that torch's reader reads these files too. Its writer is
not used: it builds each file in memory, twice, while all other Python threads wait, seconds for a GiB.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

SUFFIX = ".safetensors"
_SHARDING = "DCP_SHARDING_INFO"
_HEADER = {"format": "pt", "DCP_VERSION": "1.0"}


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether ``tensor`` is a DTensor."""
    # the module takes a second to import, and without it there is no DTensor
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


@dataclass(frozen=True)
class Rows:
    """The part of a tensor that this rank holds: ``count`` rows from ``start`` of a tensor of shape ``whole``.

    first: no rank before this one holds the same rows, so this one saves them.
    """

    start: int
    count: int
    whole: torch.Size
    first: bool = True


def rows_of(tensor: Tensor) -> Rows:
    """The rows of ``tensor`` on this rank: all of them, unless it is a sharded DTensor."""
    count = tensor.shape[0] if tensor.ndim else 1
    if not is_sharded(tensor):
        return Rows(0, count, tensor.shape)
    # the interface through which torch.distributed.checkpoint asks a DTensor for its place
    (chunk,) = tensor.__create_chunk_list__()
    assert tuple(chunk.offsets[1:]) == (0,) * (tensor.ndim - 1), "only the first dimension is sharded"
    assert tuple(chunk.sizes[1:]) == tuple(tensor.shape[1:]), "only the first dimension is sharded"
    place = tensor.device_mesh.get_coordinate() or ()
    first = all(
        index == 0
        for index, placement in zip(place, tensor.placements, strict=True)
        if placement.is_replicate()
    )
    if not tensor.ndim:
        return Rows(0, 1, tensor.shape, first)
    return Rows(chunk.offsets[0], chunk.sizes[0], tensor.shape, first)


def local(tensor: Tensor) -> Tensor:
    """This rank's rows of a DTensor, in the same memory; any other tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All values of a DTensor, an exchange; any other tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def as_sharded(rows: Tensor, like: Tensor) -> Tensor:
    """``rows`` as this rank's part of a tensor that is sharded as ``like`` is."""
    if not is_sharded(like):
        return rows
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


@dataclass(frozen=True)
class Group:
    """What this rank saves of a group of tensors: name -> (its rows, their place).

    sharded: other ranks save rows of the same tensors. Whole tensors are equal on all ranks; rank 0 saves them.
    """

    tensors: Mapping[str, tuple[Tensor, Rows]]
    sharded: bool

    @staticmethod
    def of(tensors: Mapping[str, Tensor], rank: int) -> Group:
        parts = {}
        for name, tensor in tensors.items():
            rows = rows_of(tensor)
            held = rows.first and (rows.count > 0 or rows.start == 0) if is_sharded(tensor) else rank == 0
            if held:
                parts[name] = (local(tensor.detach()), rows)
        return Group(parts, any(is_sharded(tensor) for tensor in tensors.values()))

    def write(self, folder: Path, name: str, rank: int, world_size: int) -> str | None:
        """Write this rank's file, ``NAME.safetensors`` or ``NAME-00001-of-00002.safetensors``; its name.

        None, and no file, if the group is whole and this is not rank 0.
        """
        values = {key: value.cpu().contiguous() for key, (value, _) in self.tensors.items()}
        if not self.sharded:
            if rank:
                return None
            file, header = f"{name}{SUFFIX}", None
        else:
            places: dict[str, dict[str, Any]] = {}
            for key, (value, rows) in self.tensors.items():
                offsets = [rows.start, *[0] * (value.ndim - 1)] if value.ndim else []
                places[key] = {"saved_offsets": offsets, "shape": list(rows.whole)}
            file, header = _part(name, rank, world_size), {**_HEADER, _SHARDING: json.dumps(places)}
        save_file(values, folder / file, metadata=header)
        return file


def files_of(name: str, files: Sequence[str]) -> list[str]:
    """Those of ``files`` that hold the group ``name``. Raises ValueError if there is none, or not every part."""
    if f"{name}{SUFFIX}" in files:
        return [f"{name}{SUFFIX}"]
    known = set(files)
    for file in files:
        count = file.removeprefix(f"{name}-00001-of-").removesuffix(SUFFIX)
        if file == _part(name, 0, int(count) if count.isdecimal() else 0):
            parts = [_part(name, rank, int(count)) for rank in range(int(count))]
            if missing := [part for part in parts if part not in known]:
                raise ValueError(f"{missing[0]} is missing")
            return parts
    raise ValueError(f"{name}{SUFFIX} is missing")


class SavedTensors(Mapping[str, Tensor]):
    """The tensors of a group's files, read when they are used. Raises as safetensors does, and ValueError.

    Tensors are in memory that is mapped to the files; deleting the files does not harm them.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._pieces: dict[str, list[tuple[Rows, Any]]] = {}
        for path in files:
            file = safe_open(path, framework="pt")
            header = (file.metadata() or {}).get(_SHARDING)
            places = json.loads(header) if header is not None else {}
            for name in file.keys():  # noqa: SIM118 - safe_open is not a mapping
                shape = torch.Size(file.get_slice(name).get_shape())
                rows = Rows(0, shape[0] if shape else 1, shape)
                if header is not None:
                    rows = _place(name, shape, places[name])
                self._pieces.setdefault(name, []).append((rows, file))
        for name, pieces in self._pieces.items():
            pieces.sort(key=lambda piece: piece[0].start)
            end = 0
            for rows, _ in pieces:
                if rows.start != end:
                    raise ValueError(f"row {end} of {name} is missing")
                end += rows.count
            whole = pieces[0][0].whole
            if end != (whole[0] if whole else 1) or any(rows.whole != whole for rows, _ in pieces):
                raise ValueError(f"a part of {name} is missing")

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, name: str) -> Tensor:
        """The whole tensor."""
        whole = self._pieces[name][0][0].whole
        return self.rows(name, 0, whole[0] if whole else 1)

    def rows(self, name: str, start: int, count: int) -> Tensor:
        """[count, ...]: rows of a tensor; no others are read."""
        pieces = self._pieces[name]
        if len(pieces) == 1:
            value: Tensor = pieces[0][1].get_tensor(name)
            return value[start : start + count] if value.ndim else value
        found = []
        for rows, file in pieces:
            low, high = max(start, rows.start), min(start + count, rows.start + rows.count)
            if low < high:
                found.append(file.get_tensor(name)[low - rows.start : high - rows.start])
        if not found:
            return pieces[0][1].get_tensor(name)[:0]
        return found[0] if len(found) == 1 else torch.cat(found)

    def outline(self, name: str) -> Tensor:
        """The whole tensor without its values: shape and dtype, on the device "meta"."""
        rows, file = self._pieces[name][0]
        return torch.empty(rows.whole, dtype=file.get_tensor(name).dtype, device="meta")


def outline(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """A tensor with the shape and dtype of ``tensors[name]``, which is not read."""
    return tensors.outline(name) if isinstance(tensors, SavedTensors) else tensors[name]


def rows_for(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Those rows of ``tensors[name]`` that this rank holds of ``like``, a tensor of the same shape."""
    place = rows_of(like)
    if isinstance(tensors, SavedTensors):
        return tensors.rows(name, place.start, place.count)
    value = tensors[name]
    if is_sharded(value):
        assert rows_of(value) == place, "both are sharded in the same way"
        return local(value)
    return value[place.start : place.start + place.count] if value.ndim else value


def _part(name: str, rank: int, world_size: int) -> str:
    return f"{name}-{rank + 1:05d}-of-{world_size:05d}{SUFFIX}"


def _place(name: str, shape: torch.Size, place: Mapping[str, Any]) -> Rows:
    offsets, whole = place["saved_offsets"], torch.Size(place["shape"])
    if len(whole) != len(shape) or len(offsets) != len(shape) or whole[1:] != shape[1:] or any(offsets[1:]):
        raise ValueError(f"the place of {name} is not one of rows")
    return Rows(int(offsets[0]) if shape else 0, shape[0] if shape else 1, whole)
