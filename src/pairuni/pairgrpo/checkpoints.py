"""The checkpoints of a run: saved after complete steps, loaded when the run resumes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pairuni.runs.best import held_out_scores
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.runs.state import RunState, check_same_run, read_run_state
from pairuni.training.checkpoint import Checkpoint, CheckpointError, delete_old, load_newest, rename_newer
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.ranks import ONE_RANK, Ranks
from pairuni.training.saver import CheckpointSaver
from pairuni.training.seeding import set_random_state
from pairuni.training.shards import is_sharded

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
    """Saves and loads the state of a run; ``identity`` is what distinguishes it from other runs.

    Checkpoints are written in the background. If the optimizer's parameters are sharded over ``ranks``, all ranks make
    the same calls; else rank 0 writes alone, and the calls of the others have no effect. ``load`` is always made by
    all ranks.
    """

    def __init__(
        self,
        run: RunFolder,
        optimizer: NamedAdamW,
        identity: RunState,
        *,
        keep: int,
        keep_best: int = 0,
        ranks: Ranks = ONE_RANK,
    ) -> None:
        self._run = run
        self._optimizer = optimizer
        self._identity = identity
        self._keep = keep
        self._keep_best = keep_best
        self._ranks = ranks
        self._log = MetricsLog(run.metrics)
        self._saver = CheckpointSaver(
            run.checkpoints, ranks=ranks, before=self._log.flush, after=self._delete_old_ones
        )
        self._loaded: RunState | None = None

    def load(self, position: Position) -> RunState | None:
        """Restore the newest undamaged checkpoint; its state, or None if there is no checkpoint.

        Nothing in the folder changes before a checkpoint is accepted; then newer, damaged ones are renamed. Raises
        ValueError for another run's checkpoint, CheckpointError if all are damaged.
        """
        load_newest(
            self._run.checkpoints,
            use=lambda checkpoint: self._restore(checkpoint, position),
            ranks=self._ranks,
        )
        return self._loaded

    def tidy(self) -> None:
        """Rename damaged checkpoints of later steps and delete those that are too many; on rank 0 alone."""
        self._run.checkpoints.mkdir(parents=True, exist_ok=True)
        rename_newer(self._run.checkpoints, self._saver.saved)
        self._delete_old_ones()

    def save(self, position: Position) -> None:
        """Begin to save the state after the last complete step, unless it was saved, begun or loaded last.

        Training may go on at once. Raises CheckpointError if the checkpoint before it could not be written.
        """
        if self._saver.begun == position.step:
            return
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
        self._saver.begin(checkpoint)

    def poll(self) -> None:
        """Call after every step: complete a checkpoint that all ranks have written. Raises CheckpointError."""
        self._saver.poll()

    def finish(self) -> None:
        """Wait until all that was begun is on disk. Raises CheckpointError if it could not be written."""
        self._saver.finish()

    def join(self) -> None:
        """Wait until this rank has written its part of a checkpoint, without an exchange."""
        self._saver.join()

    def save_after(self, error: BaseException, position: Position) -> None:
        """Save the last complete step when ``error`` ends the run, unless that cannot be done.

        ``error`` may have happened on this rank alone, so nothing is exchanged: shards are not saved.
        """
        saver = self._saver
        if self._ranks.world_size > 1 and any(map(is_sharded, self._optimizer.parameters.values())):
            saver.give_up()
            if saver.saved != position.step:
                logger.warning(
                    "each process holds a part of the state, so that after step %d cannot be saved; "
                    "a resume continues after step %d",
                    *(position.step, saver.saved),
                )
            return
        try:
            saver.finish()
        except CheckpointError as first:
            logger.warning("the state after step %d could not be saved: %s", saver.begun, first)
        if self._ranks.rank or saver.saved == position.step or isinstance(error, CheckpointError):
            return
        if self._optimizer.updates != position.updates:
            logger.warning(
                "step %d had already changed the weights, so the state after step %d cannot be saved; "
                "a resume continues after step %d",
                *(position.step + 1, position.step, saver.saved),
            )
            return
        saver.begun = saver.saved
        try:
            self.save(position)
            self.finish()
        except CheckpointError as second:
            logger.warning("the state after step %d could not be saved either: %s", position.step, second)
        else:
            logger.warning("the state after step %d is saved; a resume continues there", position.step)

    def _delete_old_ones(self) -> None:
        try:
            delete_old(self._run.checkpoints, keep=self._keep, keep_best=self._keep_best, scores=self._scores)
        except OSError as error:
            logger.warning("old checkpoints could not be deleted: %s", error)

    def _scores(self) -> dict[int, float]:
        return held_out_scores(self._log.rows())

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
        self._saver.begun = self._saver.saved = position.step = checkpoint.step
        position.num_tokens = saved.num_tokens
