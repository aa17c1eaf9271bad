"""Decode steps captured as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

MAX_GRAPHS = 128
"""Graphs that are kept; the least recently used is dropped first."""


class CudaGraphs:
    """One CUDA graph per kind of step; the kind is everything that determines shapes and addresses.

    A step of a new kind first runs eagerly, which warms up the libraries, and is captured the next time.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._pool: Any = None
        self._stream: Any = None

    def clear(self) -> None:
        """Drop all graphs, for instance because memory that they were captured on has moved."""
        self._graphs.clear()
        self._pool = None  # a pool dies with its last graph, and its handle cannot be captured into again

    def run(self, kind: Hashable, step: Callable[[], None]) -> None:
        """Run one step of this kind."""
        if kind not in self._graphs:
            while len(self._graphs) >= MAX_GRAPHS:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[kind] = None
            step()
            return
        graph = self._graphs.pop(kind) or self._captured(step)
        self._graphs[kind] = graph  # last in order: the first is the least recently used
        graph.replay()

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        # no step reads what another left in scratch memory, so all can share one pool
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        # torch's own capture stream belongs to whichever device was current first
        self._stream = self._stream or torch.cuda.Stream()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph
