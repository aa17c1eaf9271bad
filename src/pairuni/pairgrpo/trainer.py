"""A training run: the loop over steps, evaluation, and everything that the run writes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from pairuni.config import RunSettings
from pairuni.console.counts import counted
from pairuni.console.progress import Progress
from pairuni.distributed.shares import cut
from pairuni.distributed.strategy import Replicate, Strategy
from pairuni.distributed.world import World
from pairuni.pairgrpo.alarms import Alarms
from pairuni.pairgrpo.batch import RolloutBatch, StepNumbers
from pairuni.pairgrpo.beginning import (
    check_same,
    clear_partials,
    identity_of,
    keep_complete_steps,
    refuse_existing,
)
from pairuni.pairgrpo.checkpoints import Position, RunCheckpoints
from pairuni.pairgrpo.micro_batches import task_weights
from pairuni.pairgrpo.online_agreement import OnlineAgreement
from pairuni.pairgrpo.preflight import check_pairs
from pairuni.pairgrpo.resampling import resampling_metrics
from pairuni.pairgrpo.rollout import Rewards, Scoring, begin_rollouts
from pairuni.pairgrpo.samples import save_samples
from pairuni.pairgrpo.schedule import learning_rate_at, steps_of
from pairuni.pairgrpo.step import update
from pairuni.pairgrpo.turns import Turn, turn_of
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import TASKS, Task, UGPair
from pairuni.runs.folder import RunFolder
from pairuni.runs.history import record_changes
from pairuni.runs.metrics import MetricsLog
from pairuni.runs.state import RunState
from pairuni.trackers.trackers import Trackers
from pairuni.training.checkpoint import write_folder
from pairuni.training.interrupt import StopRequest
from pairuni.training.optimizer import NamedAdamW
from pairuni.training.seeding import derive_seed, random_state, set_random_state, shuffled_indices
from pairuni.training.shards import whole

logger = logging.getLogger("pairuni")

Evaluate = Callable[[UnifiedPolicy, int], Mapping[str, float]]


@dataclass(frozen=True)
class RunResult:
    """steps: the last complete step, of ``planned``; interrupted: a signal ended the run before its last step.

    earlier_seconds: what the steps of a resumed run took before this part of it.
    """

    steps: int
    planned: int
    interrupted: bool
    earlier_seconds: float = field(default=0.0, compare=False)


class Trainer:
    """Trains a policy on UG pairs; metrics, samples, checkpoints and the final model go to the run's folder ``out``.

    settings: of the run. policy: as loaded, also when resuming: its weights at construction are the frozen reference.
    pairs: in the order of their file, pairing and budget already applied. rewards: of both tasks. out: folder of the
    run. image_folder: what the pairs' image paths are relative to; by default the folder of the settings' pair file.
    evaluate: called as evaluate(policy, step) every ``evaluation.every`` steps, and at step 0 for the untrained policy;
    its scores join the step's metrics as ``eval/<name>``. It is called on all ranks and must return the same scores
    there. An evaluation that failed is repeated when the run resumes. trackers: receive metrics and samples too, from
    rank 0. images_digest: what ``check_pairs`` returned for these pairs; if None, they are checked when the run begins.
    strategy: of a run of several processes, each of which makes a trainer with the same arguments; they share out the
    pairs of each step, and rank 0 writes the files.

    Raises ValueError for settings that do not fit the policy, the pairs or the number of processes.
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
        trackers: Trackers | None = None,
        images_digest: str | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        grpo = settings.pairgrpo
        if not pairs:
            raise ValueError("there are no pairs to train on")
        self._strategy = strategy or Replicate(World())
        self._world = self._strategy.world
        self._settings = settings
        self.steps = steps_of(grpo, len(pairs))
        if self._world.world_size > self.pairs_per_update:
            raise ValueError(
                f"{self._world.world_size} processes cannot share {counted(self.pairs_per_update, 'pair')} per step; "
                "start fewer processes, or raise pairgrpo.pairs_per_batch, which counts those of all processes"
            )
        self._policy = policy
        self._pairs = pairs
        self._rewards = rewards
        self._run = RunFolder(out)
        self._image_folder = image_folder or settings.data.pairs.parent
        self._evaluate = evaluate
        self._trackers = trackers or Trackers(self._run)
        self._images_digest = images_digest
        policy.check_truncation(settings.rollout)
        # sampling and replay must agree, so dropout is off in both
        policy.module.eval()
        policy.activation_checkpointing = settings.policy.activation_checkpointing
        if settings.policy.lora is not None:
            policy.add_adapters(settings.policy.lora, seed=settings.seed)
        policy.train_only(settings.policy.trainable)
        self._reference = policy.reference() if grpo.beta > 0.0 else None
        for model in (policy, self._reference):
            if model is not None:
                self._strategy.place(model)
        self._optimizer = NamedAdamW(
            policy.trained(), learning_rate=grpo.learning_rate, weight_decay=grpo.weight_decay
        )
        self._agreement = None
        if settings.logging.gradient_agreement:
            self._agreement = OnlineAgreement(self._optimizer.masters, seed=settings.seed)
        self._metrics = MetricsLog(self._run.metrics)
        weights = sum(parameter.numel() for _, parameter in policy.trained())
        # float32 weights and both moments
        self._alarms = Alarms(self._run.root, checkpoint_bytes=12 * weights)
        self._position = Position()
        self._identity: RunState | None = None

    @property
    def pairs_per_update(self) -> int:
        """Pairs of a step, over all processes."""
        return self._settings.pairgrpo.pairs_per_batch * self._settings.pairgrpo.batches_per_step

    def run(self, *, resume: bool = False, begun: Callable[[], None] | None = None) -> RunResult:
        """Train to the last step and write final/.

        resume: continue from the newest checkpoint, also after an earlier call. begun: called before the first step,
        on each rank, once all checks have passed.

        The first Ctrl-C, SIGTERM or SIGHUP lets the step finish, saves a checkpoint and returns with
        ``interrupted``. After any exception, the state after the last complete step is saved first.

        Raises ValueError if ``out`` already holds a run and ``resume`` is not set, or holds another run than this
        one; UnusablePairs before the first step; RewardError, SamplingError, GradientError and CheckpointError as they
        occur. Earlier checkpoints stay valid.

        torch's global generators are afterwards as they were before.
        """
        before = random_state()
        try:
            # a caller may have turned gradients off
            with torch.inference_mode(False), torch.enable_grad():
                return self._run_steps(resume, begun)
        finally:
            set_random_state(before)

    def _run_steps(self, resume: bool, begun: Callable[[], None] | None) -> RunResult:
        world = self._world
        checkpoints = self._begin(resume)
        if begun is not None:
            begun()
            world.barrier()
        position, steps = self._position, self.steps
        earlier = self._seconds_of_steps()
        self._evaluate_if_missing()
        rewards: dict[Task, float] = {}
        progress = Progress("training", total=steps, start=position.step, quiet=not world.is_main)
        with StopRequest(launched=world.several) as stop, progress:
            self._optimizer.before_update = stop.hold
            try:
                while position.step < steps and not world.any(stop.requested):
                    row = self._train_step(stop)
                    rewards |= {task: row[key] for task in TASKS if (key := f"{task}/reward") in row}
                    progress.advance(status=_status(rewards))
                    checkpoints.poll()
                    if self._due(self._settings.checkpoint.every):
                        self._save(checkpoints)
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                world.failed(error)
                if world.is_main:
                    checkpoints.save_after(error, position)
                raise
            finally:
                checkpoints.join()
            if position.step < steps:
                self._save(checkpoints, wait=True)
                logger.warning("stopped after step %d of %d; its checkpoint is saved", position.step, steps)
                return RunResult(position.step, steps, interrupted=True, earlier_seconds=earlier)
        self._save(checkpoints, wait=True)
        self._write_final()
        return RunResult(position.step, steps, interrupted=False, earlier_seconds=earlier)

    def _write_final(self) -> None:
        """final/: the adapter where one trains, else the model."""
        save = self._policy.save_pretrained
        if self._settings.policy.lora is not None:
            weights = {name: whole(one) for name, one in self._policy.trained()}
            save = partial(self._policy.save_adapter, weights=weights)
        self._world.on_main(lambda: write_folder(self._run.final, save))

    def _save(self, checkpoints: RunCheckpoints, *, wait: bool = False) -> None:
        """Begin a checkpoint; with ``wait``, return on no rank before it is complete."""
        self._world.enter(f"step {self._position.step}, checkpoint")
        checkpoints.save(self._position)
        if wait:
            checkpoints.finish()
            self._world.on_main(lambda: None)

    def _begin(self, resume: bool) -> RunCheckpoints:
        """Restore the newest checkpoint, if any, and remove from the folder what later steps left there."""
        run, position, world = self._run, self._position, self._world
        world.on_main(lambda: refuse_existing(run, resume))
        digest = self._images_digest or check_pairs(
            self._policy, self._pairs, self._settings.rollout, self._image_folder
        )
        # of the policy as loaded, also when this trainer resumes what it has trained itself
        identity = self._identity = self._identity or identity_of(
            *(self._settings, self._policy, self._pairs, digest),
            pairs_per_update=self.pairs_per_update,
            steps=self.steps,
        )
        check_same(world, identity.model_dump(mode="json", exclude={"places"}), run)
        kept = self._settings.checkpoint
        checkpoints = RunCheckpoints(
            run, self._optimizer, identity, keep=kept.keep, keep_best=kept.keep_best, ranks=world
        )
        saved = checkpoints.load(position)
        if saved is None and self._optimizer.updates:
            raise ValueError(
                f"{run.root} has no checkpoint, and the policy has trained; make another trainer, with the policy as "
                "loaded"
            )
        self._policy.refresh_inference()
        check_same(world, {"the checkpoint's step": position.step}, run)
        # nothing in the folder has changed before this point
        world.on_main(lambda: self._keep_complete_steps(checkpoints, saved, identity, resume))
        if saved is None:
            torch.manual_seed(self._settings.seed % 2**64)  # torch refuses larger ones
        position.random = random_state()
        position.updates = self._optimizer.updates
        return checkpoints

    def _keep_complete_steps(
        self, checkpoints: RunCheckpoints, saved: RunState | None, identity: RunState, resume: bool
    ) -> None:
        clear_partials(self._run)
        checkpoints.tidy()
        keep_complete_steps(self._run, self._metrics, self._position, saved)
        self._trackers.begin()
        if saved is not None:
            if self._position.step < self.steps:
                record_changes(self._run, self._position.step, saved.settings, identity.settings)
            self._alarms.remember(self._metrics.rows())
        elif resume:
            logger.info("%s has no checkpoint yet: training from step 1", self._run.root)

    def _train_step(self, stop: StopRequest) -> dict[str, float]:
        settings, position = self._settings, self._position
        world = self._world
        began = time.perf_counter()
        world.enter(f"step {position.step + 1}, rollout")
        turn = turn_of(position.step + 1, settings.pairgrpo.tasks)
        batch, scoring_seconds = self._rollouts(turn)
        own = {"rollout": time.perf_counter() - began, "rewards": scoring_seconds}
        numbers = StepNumbers.gather(batch, world)
        sampled, waited = time.perf_counter(), world.waited
        sides = numbers.by_task.values()
        new_tokens = sum(int(one.sampled_tokens.sum()) + one.discarded.sampled_tokens for one in sides)
        prompt_tokens = sum(one.prompt_tokens + one.discarded.prompt_tokens for one in sides)
        world.enter(f"step {position.step + 1}, update")
        try:
            metrics = update(
                self._policy,
                batch,
                self._optimizer,
                settings.pairgrpo,
                step=position.step + 1,
                learning_rate=learning_rate_at(position.step + 1, settings.pairgrpo, self.steps),
                reference=self._reference,
                strategy=self._strategy,
                numbers=numbers,
                agreement=self._agreement,
            )
            position.random = random_state()
            position.num_tokens += new_tokens + prompt_tokens
            position.step += 1
            position.updates = self._optimizer.updates
        finally:
            stop.release()
        ended = time.perf_counter()
        own["update"] = ended - sampled - (world.waited - waited)
        row: dict[str, float] = {
            "step": position.step,
            "epoch": position.step * self.pairs_per_update / (len(turn.steps) * len(self._pairs)),
            **metrics,
            **(resampling_metrics(numbers) if settings.rollout.resample else {}),
            "num_tokens": position.num_tokens,
            "tokens_per_second": new_tokens / (ended - began),
            "step_time": ended - began,
            "rollout_time": sampled - began,
            "update_time": ended - sampled,
        }
        position.unlogged = row
        try:
            every = settings.logging.samples_every
            # of a round, the samples of both tasks or none
            if world.is_main and any(_is_due(step, every) for step in turn.steps):
                save_samples(self._run, batch, step=position.step)
                self._trackers.sampled(position.step)
            row |= self._evaluate_if_due()
        finally:
            self._log(row)
        seconds = world.gather(own)
        if world.is_main:
            self._alarms.after_step(row, seconds)
        return row

    def _rollouts(self, turn: Turn) -> tuple[RolloutBatch, float]:
        """This rank's rollouts of a step, and the seconds that their rewards took."""
        settings = self._settings
        grpo = settings.pairgrpo
        order = shuffled_indices(
            len(self._pairs),
            start=(turn.round - 1) * self.pairs_per_update,
            number=self.pairs_per_update,
            seed=settings.seed,
        )
        # a group of a task without weight has no gradient in any case
        weights = task_weights(grpo)
        resampled = [task for task in TASKS if weights[task] > 0.0 or grpo.unified_reward is not None]
        with Scoring(self._policy.device) as scoring:
            begun = []
            for places in cut(self._world.share.of(self.pairs_per_update), grpo.pairs_per_batch):
                index, first = divmod(places.start, grpo.pairs_per_batch)
                begun.append(
                    begin_rollouts(
                        self._policy,
                        [self._pairs[order[place]] for place in places],
                        settings.rollout,
                        self._rewards,
                        scoring,
                        seed=derive_seed(settings.seed, turn.round, index),
                        image_folder=self._image_folder,
                        tasks=turn.tasks,
                        first_prompt=first,
                        pair_weight_mode=grpo.pair_weight,
                        std_eps=grpo.std_eps,
                        unified_reward=grpo.unified_reward,
                        resampled=resampled,
                    )
                )
            return RolloutBatch.join([finish() for finish in begun]), scoring.seconds

    def _evaluate_if_due(self) -> dict[str, float]:
        """Scores of the current policy; none if no evaluation is due."""
        if self._evaluate is None or not self._due(self._settings.evaluation.every):
            return {}
        step = self._position.step
        self._world.enter(f"step {step}, held-out evaluation")
        scores = self._evaluate(self._policy, step)
        set_random_state(self._position.random)  # an evaluation must not change the training
        words = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        logger.info("held-out evaluation at step %d: %s", step, words)
        # float: a caller's scores may be scalars of numpy or torch
        return {f"eval/{name}": float(value) for name, value in scores.items()}

    def _evaluate_if_missing(self) -> None:
        """Evaluate the policy before training, or at a step whose evaluation failed."""
        step = self._position.step
        row = self._world.on_main(self._unevaluated_row)
        if row is None:
            return
        if scores := self._evaluate_if_due():
            if self._world.is_main:
                self._metrics.rewind(step - 1)
            self._log(row | scores)

    def _seconds_of_steps(self) -> float:
        """What the steps in metrics.jsonl took; on rank 0 alone."""
        rows = self._metrics.rows() if self._world.is_main else []
        return sum(taken for row in rows if isinstance(taken := row.get("step_time"), int | float))

    def _unevaluated_row(self) -> dict[str, float] | None:
        """The metrics of the last step; None if they have held-out scores."""
        step, rows = self._position.step, self._metrics.rows()
        row: dict[str, float] = rows[-1] if rows and rows[-1]["step"] == step else {"step": step}
        return None if any(name.startswith("eval/") for name in row) else row

    def _log(self, row: Mapping[str, float]) -> None:
        if self._world.is_main:
            self._metrics.append(row)
        self._position.unlogged = None
        if self._world.is_main:
            self._trackers.log(row, self._position.step)

    def _due(self, every: int) -> bool:
        return _is_due(self._position.step, every)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _status(rewards: Mapping[Task, float]) -> str:
    return " ".join(["reward", *(f"{task} {rewards[task]:.3f}" for task in TASKS if task in rewards)])
