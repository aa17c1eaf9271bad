"""Digests of weights, which distinguish models down to a single value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from pairuni.training.shards import is_sharded, whole

_THREADS = 4


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values, independent of order, device and sharding.

    If there are DTensors, all ranks call it with the same order; one tensor at a time is gathered.
    """
    if any(map(is_sharded, tensors.values())):
        lines = [_line((name, whole(tensor))) for name, tensor in tensors.items()]
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            lines = list(pool.map(_line, tensors.items()))
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _line(named: tuple[str, Tensor]) -> str:
    name, tensor = named
    plain = tensor.detach().cpu().contiguous()
    values = hashlib.sha256(plain.reshape(-1).view(torch.uint8).numpy().data)
    return f"{name} {plain.dtype} {tuple(plain.shape)} {values.hexdigest()}\n"
