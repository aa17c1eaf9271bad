"""Which tasks a step trains, and on which pairs of the data order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairuni.config import TaskOrder
from pairuni.records import TASKS, Task

TURNS: dict[TaskOrder, Sequence[Sequence[Task]]] = {
    "joint": [TASKS],
    "alternating": [[task] for task in TASKS],
}
"""The tasks of each step of a round. A round is the steps that use the same pairs."""


@dataclass(frozen=True)
class Turn:
    """A step's place in its round.

    tasks: those that the step samples and trains. round: 1, 2, ...; the round's number stands for that of a joint step
    in the data order and in the seeds. steps: those of the round.
    """

    tasks: Sequence[Task]
    round: int
    steps: range


def turn_of(step: int, order: TaskOrder) -> Turn:
    """The turn of step 1, 2, ..."""
    turns = TURNS[order]
    earlier, place = divmod(step - 1, len(turns))
    first = earlier * len(turns) + 1
    return Turn(turns[place], earlier + 1, range(first, first + len(turns)))
