"""A CUDA device that needs no GPU: fake tensors of device cuda, each with its values on the CPU.

``FakeTensorMode`` checks each operator as a GPU would: devices, dtypes and shapes must fit, and tensors of the CPU are
not mixed in. It has no values, so code that reads them (stop tokens, gradient norms) could not run; here each fake
tensor of device cuda has a shadow on the CPU, on which the same operator runs too. Tensors on the CPU stay plain ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from pairuni.policies.decoding.loop import DecodeLoop

CUDA = torch.device("cuda", 0)


class FakeCuda(FakeTensorMode):
    """The mode in which device cuda exists. reads: how often the host read a value from the device."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.cache_enabled = False
        self.reads = 0
        self._inside = False

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside:  # an operator that the fake one consists of
            return super().dispatch(func, types, args, kwargs)
        if not any(map(_on_cuda, tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            self.reads += 1
            return func(args[0].shadow)
        real_args, real_kwargs = tree_map(_real, (args, kwargs))
        real = func(*real_args, **real_kwargs)
        self._inside = True
        try:
            made_here = not any(isinstance(one, FakeTensor) for one in tree_leaves((args, kwargs)))
            fake = (
                tree_map(self._uploaded, real) if made_here else super().dispatch(func, types, args, kwargs)
            )
        except (DynamicOutputShapeException, DataDependentOutputException):
            self.reads += 1  # a GPU waits here as well
            fake = tree_map(self._uploaded, real)
        except RuntimeError as error:
            if "not linked with support for cuda" not in str(error):
                raise
            fake = tree_map(self._uploaded, real)
        finally:
            self._inside = False
        found, layout = tree_flatten(fake)
        return tree_unflatten(
            [_with_shadow(one, other) for one, other in zip(found, tree_leaves(real), strict=True)], layout
        )

    def _uploaded(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return FakeTensor(self, value.to("meta"), CUDA)


class Guardless(TorchFunctionMode):
    """Indexing and copies by operators: torch's own ask for CUDA's device guard, which builds for the CPU lack."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            return _indexed(*args)
        if func is Tensor.__setitem__:
            return _assign(*args)
        if func is Tensor.copy_ and isinstance(args[0], FakeTensor):
            return _copied(*args[:2])
        if func is Tensor.contiguous and isinstance(args[0], FakeTensor):
            return args[0].clone(memory_format=torch.contiguous_format)
        return func(*args, **(kwargs or {}))


def _view(tensor: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The view by the plain parts of an index, and the tensors that index its dimensions."""
    parts = list(index) if isinstance(index, tuple) else [index]
    used = sum(one.ndim if _is_mask(one) else 1 for one in parts if one is not None and one is not Ellipsis)
    rest = [slice(None)] * (tensor.ndim - used)
    place = next((number for number, one in enumerate(parts) if one is Ellipsis), len(parts))
    parts[place : place + 1] = rest
    tensors: list[Tensor | None] = []
    for one in parts:
        dim = len(tensors)
        if one is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(one, int):
            tensor = tensor.select(dim, one)
            continue
        elif isinstance(one, slice):
            if one != slice(None):
                tensor = torch.ops.aten.slice(tensor, dim, one.start, one.stop, one.step or 1)
        else:
            given = one if isinstance(one, Tensor) else torch.tensor(one)
            tensors += [given, *[None] * (given.ndim - 1 if _is_mask(given) else 0)]
            continue
        tensors.append(None)
    return tensor, tensors


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype == torch.bool


def _compact(tensors: list[Tensor | None]) -> list[Tensor | None]:
    """A mask of several dimensions stands for all of them."""
    found: list[Tensor | None] = []
    skip = 0
    for one in tensors:
        if skip:
            skip -= 1
            continue
        found.append(one)
        skip = one.ndim - 1 if _is_mask(one) and one is not None else 0
    return found


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    view, tensors = _view(tensor, index)
    if not any(one is not None for one in tensors):
        return view
    found: Tensor = torch.ops.aten.index(view, _compact(tensors))
    return found


def _assign(tensor: Tensor, index: Any, value: Any) -> None:
    view, tensors = _view(tensor, index)
    if not any(one is not None for one in tensors):
        _copied(view, value if isinstance(value, Tensor) else torch.tensor(value, dtype=view.dtype))
        return
    value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=view.dtype)
    torch.ops.aten.index_put_(view, _compact(tensors), value.to(view.device))


def _copied(target: Tensor, source: Tensor) -> Tensor:
    source = source.to(target.device, target.dtype)
    target.zero_()
    return target.logical_or_(source) if target.dtype == torch.bool else target.add_(source)


def _on_cuda(value: Any) -> bool:
    if isinstance(value, FakeTensor):
        return True
    return isinstance(value, torch.device) and value.type == "cuda"


def _real(value: Any) -> Any:
    """The argument as the CPU's operator takes it."""
    if isinstance(value, FakeTensor):
        return value.shadow
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _with_shadow(fake: Any, real: Any) -> Any:
    if not isinstance(fake, FakeTensor):
        return fake
    assert fake.shape == real.shape, "the fake operator gives another tensor"
    real = real.to(fake.dtype)  # statistics of norms are float32 on a GPU
    if fake.device.type == "cpu":
        return real
    fake.shadow = real
    return fake


def _causal_mask(queries: int, keys: int) -> Tensor:
    """torch's own is a subclass of Tensor, which no fake tensor can be."""
    return torch.ones(queries, keys, dtype=torch.bool, device=CUDA).tril(keys - queries)


@contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """While entered, tensors can be moved to and made on a CUDA device; what needs its driver is replaced."""
    card = SimpleNamespace(total_memory=80 << 30)
    patch.setattr(torch.cuda, "device", lambda device: nullcontext())
    patch.setattr(torch.cuda, "get_device_properties", lambda device=None: card)
    patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (40 << 30, 80 << 30))
    patch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
    patch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
    patch.setattr("pairuni.policies.replay.causal_lower_right", _causal_mask)
    patch.setattr(DecodeLoop, "captures", property(lambda loop: False))
    # fused kernels of attention differ from those of the CPU in what they return
    with sdpa_kernel(SDPBackend.MATH), FakeCuda() as mode, Guardless():
        yield mode
