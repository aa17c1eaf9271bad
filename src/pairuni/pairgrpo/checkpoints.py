"""The checkpoints of a run: saved after complete steps, loaded when the run resumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.runs.state import RunState, check_same_run, read_run_state
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    keep_newest,
    load_newest,
    rename_newer,
    save_checkpoint,
)
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.seeding import set_random_state

logger = logging.getLogger("pairuni")


@dataclass
class Position:
    """Where a run is after its last complete step.

    num_tokens: prompt and sampled tokens so far. random: the generators' states. updates: ``NamedAdamW.updates``
    then. unlogged: the step's line of metrics while it is not written.
    """

    step: int = 0
    num_tokens: int = 0
    random: dict[str, Tensor] = field(default_factory=dict)
    updates: int = 0
    unlogged: Mapping[str, float] | None = None


class RunCheckpoints:
    """Saves and loads the state of a run; ``identity`` is what distinguishes it from other runs."""

    def __init__(self, run: RunFolder, optimizer: NamedAdamW, identity: RunState, *, keep: int) -> None:
        self._run = run
        self._optimizer = optimizer
        self._identity = identity
        self._keep = keep
        self._saved = 0
        self._loaded: RunState | None = None

    def load(self, position: Position) -> RunState | None:
        """Restore the newest undamaged checkpoint; its state, or None if there is no checkpoint.

        Nothing in the folder changes before a checkpoint is accepted; then newer, damaged ones are renamed. Raises
        ValueError for another run's checkpoint, CheckpointError if all are damaged.
        """
        load_newest(self._run.checkpoints, use=lambda checkpoint: self._restore(checkpoint, position))
        return self._loaded

    def tidy(self) -> None:
        """Rename damaged checkpoints of later steps and delete those that are too many."""
        self._run.checkpoints.mkdir(parents=True, exist_ok=True)
        rename_newer(self._run.checkpoints, self._saved)
        keep_newest(self._run.checkpoints, self._keep)

    def save(self, position: Position) -> None:
        """Save the state after the last complete step, unless it was saved or loaded last."""
        if self._saved == position.step:
            return
        MetricsLog(self._run.metrics).flush()
        state = self._identity.model_copy(
            update={"num_tokens": position.num_tokens, "unlogged": position.unlogged}
        )
        checkpoint = Checkpoint(
            step=position.step,
            tensors={
                "trained": self._optimizer.weights(),
                "optimizer": self._optimizer.state(),
                "random": position.random,
            },
            state=state.model_dump(mode="json"),
        )
        save_checkpoint(self._run.checkpoints, checkpoint, keep=self._keep)
        self._saved = position.step

    def save_after(self, error: BaseException, position: Position) -> None:
        """Save the last complete step when ``error`` ends the run, unless that cannot be done."""
        if self._saved == position.step or isinstance(error, CheckpointError):
            return
        if self._optimizer.updates != position.updates:
            logger.warning(
                "step %d had already changed the weights, so the state after step %d cannot be saved; "
                "a resume continues after step %d",
                *(position.step + 1, position.step, self._saved),
            )
            return
        try:
            self.save(position)
        except CheckpointError as second:
            logger.warning("the state after step %d could not be saved either: %s", position.step, second)
        else:
            logger.warning("the state after step %d is saved; a resume continues there", position.step)

    def _restore(self, checkpoint: Checkpoint, position: Position) -> None:
        saved = read_run_state(checkpoint.state, self._run.checkpoints)
        check_same_run(self._run, checkpoint.step, saved, self._identity)
        try:
            self._optimizer.load(checkpoint.tensors["trained"], checkpoint.tensors["optimizer"])
            set_random_state(checkpoint.tensors["random"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} does not fit ({error})"
            ) from error
        self._loaded = saved
        self._saved = position.step = checkpoint.step
        position.num_tokens = saved.num_tokens
