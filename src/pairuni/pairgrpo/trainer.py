"""The run: loop, evaluation, samples, checkpoints, logging."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pairuni.config import PairGRPOSettings, RewardSettings, RunSettings
from pairuni.io.files import clear_partial
from pairuni.pairgrpo.preflight import check_pairs
from pairuni.pairgrpo.resuming import digest_of_pairs, forget_changes, record_changes, refuse_another_run
from pairuni.pairgrpo.rollout import TASKS, Rewards, RolloutBatch, Scoring, begin_rollouts
from pairuni.pairgrpo.samples import save_samples
from pairuni.pairgrpo.step import FrozenReference, update
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import UGPair
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.runs.run_state import RunState, read_run_state
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    keep_newest,
    list_checkpoints,
    load_newest,
    save_checkpoint,
    set_newer_aside,
    write_folder,
)
from pairuni.training.digests import digest_of_tensors
from pairuni.training.interrupt import StopRequest
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.seeding import derive_seed, random_state, set_random_state, shuffled_indices
from pairuni.training.tracking import MetricsLog, Progress, Tracker

logger = logging.getLogger("pairuni")

Evaluate = Callable[[UnifiedPolicy, int], Mapping[str, float]]


@dataclass(frozen=True)
class RunResult:
    """How a run ended: steps done, and whether a signal ended it before its last step."""

    steps: int
    interrupted: bool


def learning_rate_at(step: int, settings: PairGRPOSettings) -> float:
    """Learning rate of step 1, 2, ...: linear warm-up over ``warmup_steps``, then constant."""
    return settings.learning_rate * min(1.0, step / max(settings.warmup_steps, 1))


def load_rewards(names: RewardSettings) -> Rewards:
    """The two rewards that the settings name. Raises ValueError naming the known ones."""
    return Rewards(
        understanding=text_reward(names.understanding, names),
        generation=image_reward(names.generation, names),
        normalise=names.normalise,
        timeout=names.timeout,
    )


class Trainer:
    """Trains a policy on UG pairs and fills the run's folder ``out``.

    metrics.jsonl has a line a step, samples/ images and answers, checkpoints/ what a resume needs, final/
    the trained model. pairs: in their file's order, pairing and budget already applied; image_folder: what
    their image paths are relative to, None means beside the settings' pair file. evaluate(policy, step) is
    called every ``evaluation.every`` steps, and for the untouched policy as step 0; what it returns joins the
    step's line as ``eval/<name>``. A call that failed is made up for when the run is resumed. The policy must
    be as loaded, also when resuming: its weights at construction are the frozen reference. images: what
    ``check_pairs`` returned for these pairs; None checks them when the run begins.

    Raises ValueError for settings that do not fit the policy or the pairs.
    """

    def __init__(
        self,
        settings: RunSettings,
        policy: UnifiedPolicy,
        pairs: Sequence[UGPair],
        rewards: Rewards,
        out: Path,
        *,
        image_folder: Path | None = None,
        evaluate: Evaluate | None = None,
        tracker: Tracker | None = None,
        pictures: str | None = None,
    ) -> None:
        if not pairs:
            raise ValueError("there are no pairs to train on")
        self._settings = settings
        self._policy = policy
        self._pairs = pairs
        self._rewards = rewards
        self._out = out
        self._image_folder = image_folder or settings.data.pairs.parent
        self._evaluate = evaluate
        self._tracker = tracker
        self._images = pictures
        grpo = settings.pairgrpo
        if grpo.understanding_weight == grpo.generation_weight == 0.0:
            raise ValueError("understanding_weight and generation_weight are both 0: nothing would train")
        # what was sampled must be what is replayed: no dropout in either
        policy.module.eval()
        policy.activation_checkpointing = settings.policy.activation_checkpointing
        parameters = policy.train_only(settings.policy.trainable)
        self._optimizer = NamedAdamW(
            parameters, learning_rate=grpo.learning_rate, weight_decay=grpo.weight_decay
        )
        self._reference = FrozenReference(policy, parameters) if grpo.beta > 0.0 else None
        self._metrics = MetricsLog(out / "metrics.jsonl")
        self._samples = MetricsLog(out / "samples" / "samples.jsonl")
        self._step = self._saved = 0
        self._num_tokens = 0
        self._random: dict[str, torch.Tensor] = {}
        self._updates = 0
        self._unlogged: dict[str, float] | None = None

    @property
    def pairs_per_update(self) -> int:
        return self._settings.pairgrpo.pairs_per_batch * self._settings.pairgrpo.batches_per_step

    def run(self, *, resume: bool = False, begun: Callable[[], None] | None = None) -> RunResult:
        """Train to the last step and write final/; with ``resume``, go on from the newest checkpoint.

        begun: called when nothing stands in the way, before the first step.
        The first Ctrl-C, SIGTERM or SIGHUP lets the step finish, saves a checkpoint and returns with
        ``interrupted``. Whatever is raised during the run, the state after the last whole step is saved first.

        Raises ValueError when ``out`` already holds a run and ``resume`` is not set, and when it holds another run
        than this one; UnusablePairs before the first step; RewardError, GradientError and CheckpointError as their
        docstrings say. Checkpoints made before stay good.
        """
        self._begin(resume)
        if begun is not None:
            begun()
        steps = self._settings.pairgrpo.steps
        self._look_where_missing()
        with StopRequest() as stop, Progress("training", total=steps, start=self._step) as progress:
            self._optimizer.before_update = stop.hold
            try:
                while self._step < steps and not stop.requested:
                    row = self._train_step(stop)
                    progress.advance(status=_status(row))
                    if self._due(self._settings.checkpoint.every):
                        self._save_checkpoint()
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                self._save_last_whole_step(error)
                raise
            if self._step < steps:
                self._save_checkpoint()
                logger.warning("stopped after step %d of %d; its checkpoint is saved", self._step, steps)
                return RunResult(self._step, interrupted=True)
        self._save_checkpoint()
        write_folder(self._out / "final", self._policy.save_pretrained)
        return RunResult(self._step, interrupted=False)

    def _begin(self, resume: bool) -> None:
        if not resume and (self._metrics.path.exists() or list_checkpoints(self._checkpoints)):
            raise ValueError(f"{self._out} already holds a run; resume it or choose another folder")
        self._now = self._run_state()
        # nothing in the folder is changed before this has accepted it
        found = load_newest(self._checkpoints, use=self._restore)
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in (self._out, self._checkpoints, self._samples.path.parent, self._out / "evaluation"):
            clear_partial(folder)
        set_newer_aside(self._checkpoints, self._step)
        keep_newest(self._checkpoints, self._settings.checkpoint.keep)
        self._metrics.rewind(self._step or -1)  # a run without a checkpoint looks again at step 0
        self._samples.rewind(self._step)
        if found is None:
            torch.manual_seed(self._settings.seed)
            forget_changes(self._out)
            if resume:
                logger.info("%s holds no checkpoint yet: training from step 1", self._out)
        else:
            self._continue(read_run_state(found.state, self._checkpoints))
        self._random = random_state()
        self._updates = self._optimizer.updates

    def _continue(self, saved: RunState) -> None:
        logger.info("resuming after step %d", self._step)
        if self._step < self._settings.pairgrpo.steps:
            record_changes(self._out, self._step, saved, self._now)
        rows = self._metrics.rows()
        if saved.unlogged is not None and (not rows or rows[-1]["step"] < self._step):
            self._metrics.append(saved.unlogged)

    def _train_step(self, stop: StopRequest) -> dict[str, float]:
        settings = self._settings
        began = time.perf_counter()
        batch = self._rollouts(self._step + 1)
        sampled = time.perf_counter()
        new_tokens = sum(int(batch.task(task).lengths.sum()) for task in TASKS)
        prompts = sum(len(t.prompt_ids) for task in TASKS for t in batch.task(task).trajectories)
        try:
            metrics = update(
                self._policy,
                batch,
                self._optimizer,
                settings.pairgrpo,
                step=self._step + 1,
                learning_rate=learning_rate_at(self._step + 1, settings.pairgrpo),
                reference=self._reference,
            )
            self._random = random_state()
            self._num_tokens += new_tokens + prompts
            self._step += 1
            self._updates = self._optimizer.updates
        finally:
            stop.release()
        ended = time.perf_counter()
        row: dict[str, float] = {
            "step": self._step,
            "epoch": self._step * self.pairs_per_update / len(self._pairs),
            **metrics,
            "num_tokens": self._num_tokens,
            "tokens_per_second": new_tokens / (ended - began),
            "step_time": ended - began,
            "rollout_time": sampled - began,
            "update_time": ended - sampled,
        }
        self._unlogged = row
        try:
            if self._due(settings.logging.samples_every):
                save_samples(self._samples.path.parent, batch, step=self._step)
            row |= self._look()
        finally:
            self._log(row)
        return row

    def _look(self) -> dict[str, float]:
        """Scores of the policy as it is now; none when no evaluation is due."""
        if self._evaluate is None or not self._due(self._settings.evaluation.every):
            return {}
        scores = self._evaluate(self._policy, self._step)
        set_random_state(self._random)  # looking at the model must not change its training
        return {f"eval/{name}": value for name, value in scores.items()}

    def _look_where_missing(self) -> None:
        """Look at the policy as the run finds it: untouched, or where the look of its last step failed."""
        rows = self._metrics.rows()
        row = rows[-1] if rows and rows[-1]["step"] == self._step else {"step": self._step}
        if any(name.startswith("eval/") for name in row):
            return
        if looked := self._look():
            self._metrics.rewind(self._step - 1)
            self._log(row | looked)

    def _log(self, row: Mapping[str, float]) -> None:
        self._metrics.append(row)
        self._unlogged = None
        if self._tracker is not None:
            self._tracker.log(row, self._step)

    def _rollouts(self, step: int) -> RolloutBatch:
        settings = self._settings
        grpo = settings.pairgrpo
        order = shuffled_indices(
            len(self._pairs),
            start=(step - 1) * self.pairs_per_update,
            number=self.pairs_per_update,
            seed=settings.seed,
        )
        with Scoring(self._policy.device) as scoring:
            begun = []
            for index in range(grpo.batches_per_step):
                chosen = order[index * grpo.pairs_per_batch : (index + 1) * grpo.pairs_per_batch]
                begun.append(
                    begin_rollouts(
                        self._policy,
                        [self._pairs[position] for position in chosen],
                        settings.rollout,
                        self._rewards,
                        scoring,
                        seed=derive_seed(settings.seed, step, index),
                        image_folder=self._image_folder,
                        pair_weight_mode=grpo.pair_weight,
                        std_eps=grpo.std_eps,
                    )
                )
            return RolloutBatch.join([finish() for finish in begun])

    @property
    def _checkpoints(self) -> Path:
        return self._out / "checkpoints"

    def _due(self, every: int) -> bool:
        return every > 0 and self._step % every == 0

    def _save_checkpoint(self) -> None:
        """Save the state after the last whole step, unless that is what was saved or loaded last."""
        if self._saved == self._step:
            return
        self._metrics.flush()
        checkpoint = Checkpoint(
            step=self._step,
            tensors={
                "trained": self._optimizer.weights(),
                "optimizer": self._optimizer.state(),
                "random": self._random,
            },
            state=self._now.model_copy(
                update={"num_tokens": self._num_tokens, "unlogged": self._unlogged}
            ).model_dump(mode="json"),
        )
        save_checkpoint(self._checkpoints, checkpoint, keep=self._settings.checkpoint.keep)
        self._saved = self._step

    def _save_last_whole_step(self, error: BaseException) -> None:
        if self._saved == self._step or isinstance(error, CheckpointError):
            return
        if self._optimizer.updates != self._updates:
            logger.warning(
                "step %d had begun to change the weights, so the state after step %d cannot be saved; "
                "a resume continues from step %d",
                *(self._step + 1, self._step, self._saved),
            )
            return
        try:
            self._save_checkpoint()
        except CheckpointError as second:
            logger.warning("the state after step %d could not be saved either: %s", self._step, second)
        else:
            logger.warning("the state after step %d is saved; a resume continues there", self._step)

    def _run_state(self) -> RunState:
        """What tells this run from others. Raises UnusablePairs."""
        pictures = self._images or check_pairs(
            self._policy, self._pairs, self._settings.rollout, self._image_folder
        )
        module = self._policy.module
        return RunState(
            num_tokens=0,
            seed=self._settings.seed,
            pairs_per_update=self.pairs_per_update,
            pairs_sha256=digest_of_pairs(self._pairs),
            pictures_sha256=pictures,
            policy_sha256=digest_of_tensors(module.state_dict()),
            dtype=str(next(module.parameters()).dtype).removeprefix("torch."),
            settings=self._settings.model_dump(mode="json"),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Raises ValueError for another run's checkpoint, CheckpointError for a damaged one."""
        saved = read_run_state(checkpoint.state, self._checkpoints)
        refuse_another_run(self._out, checkpoint.step, saved, self._now)
        try:
            self._optimizer.load(checkpoint.tensors["trained"], checkpoint.tensors["optimizer"])
            set_random_state(checkpoint.tensors["random"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} does not fit ({error})"
            ) from error
        self._step = self._saved = checkpoint.step
        self._num_tokens = saved.num_tokens


def _status(row: Mapping[str, float]) -> str:
    return f"reward understanding {row['understanding/reward']:.3f} generation {row['generation/reward']:.3f}"
