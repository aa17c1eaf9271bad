"""Engines compute blocks of work: here in one process, in ``pairug.scale`` on the workers of several machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Block = TypeVar("Block")
Made = TypeVar("Made")

Make = Callable[[], Callable[[Block], Made]]
"""Called once per worker: loads what all blocks need and returns the function that computes one block."""


class Engine(Protocol):
    """Computes blocks, in any order and on any machine."""

    def run(self, make: Make[Block, Made], blocks: Sequence[Block]) -> Iterator[tuple[int, Made]]:
        """(number, result) of every block, as they finish. Raises the exception of a block."""
        ...


class OneProcess:
    """Computes blocks in this process, in order."""

    def run(self, make: Make[Block, Made], blocks: Sequence[Block]) -> Iterator[tuple[int, Made]]:
        work = make()
        for number, block in enumerate(blocks):
            yield number, work(block)
