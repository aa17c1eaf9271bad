"""The run: loop, evaluation, samples, checkpoints, logging."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pairuni.config import PairGRPOSettings, RewardSettings, RunSettings
from pairuni.files import clear_partial
from pairuni.pairgrpo.rollout import TASKS, Rewards, RolloutBatch, Scoring, begin_rollouts
from pairuni.pairgrpo.samples import save_samples
from pairuni.pairgrpo.step import FrozenReference, update
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import UGPair
from pairuni.rewards.checked import RewardError
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.training.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    write_folder,
)
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

    metrics.jsonl has a line a step, samples/ pictures and answers, checkpoints/ what a resume needs, final/
    the trained model. pairs: in their file's order, pairing and budget already applied; image_folder: what
    their image paths are relative to, None means beside the settings' pair file. evaluate(policy, step) is
    called every ``evaluation.every`` steps, and for the untouched policy as step 0; what it returns joins the
    step's line as ``eval/<name>``. A call that failed is made up for when the run is resumed. The policy must
    be as loaded, also when resuming: its weights at construction are the frozen reference.

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
        grpo = settings.pairgrpo
        if grpo.understanding_weight == grpo.generation_weight == 0.0:
            raise ValueError("understanding_weight and generation_weight are both 0: nothing would train")
        # what was sampled must be what is replayed: no dropout in either
        policy.module.eval()
        policy.activation_checkpointing = settings.policy.activation_checkpointing
        parameters = policy.train_only(settings.policy.trains)
        self._optimizer = NamedAdamW(
            parameters, learning_rate=grpo.learning_rate, weight_decay=grpo.weight_decay
        )
        self._reference = FrozenReference(policy, parameters) if grpo.beta > 0.0 else None
        self._metrics = MetricsLog(out / "metrics.jsonl")
        self._samples = MetricsLog(out / "samples" / "samples.jsonl")
        self._step = 0
        self._num_tokens = 0
        self._random: dict[str, torch.Tensor] = {}

    @property
    def pairs_per_update(self) -> int:
        return self._settings.pairgrpo.pairs_per_step * self._settings.pairgrpo.gradient_accumulation

    def run(self, *, resume: bool = False, begun: Callable[[], None] | None = None) -> RunResult:
        """Train to the last step and write final/; with ``resume``, go on from the newest checkpoint.

        begun: called when nothing stands in the way, before the first step.
        The first Ctrl-C or SIGTERM lets the step finish, saves a checkpoint and returns with ``interrupted``.
        A failing reward saves the last whole step too.

        Raises ValueError when ``out`` already holds a run and ``resume`` is not set; RewardError,
        GradientError and CheckpointError as their docstrings say. Checkpoints made before stay good.
        """
        self._begin(resume)
        if begun is not None:
            begun()
        steps = self._settings.pairgrpo.steps
        self._look_where_missing()
        with StopRequest() as stop, Progress("training", total=steps, start=self._step) as progress:
            try:
                while self._step < steps and not stop.requested:
                    row = self._train_step()
                    progress.advance(status=_status(row))
                    if self._due(self._settings.checkpoint.every):
                        self._save_checkpoint()
            except (KeyboardInterrupt, RewardError):
                # the weights are those after step self._step unless an update was under way
                if self._random and self._step > 0:
                    self._save_checkpoint()
                raise
            if self._step < steps:
                self._save_checkpoint()
                logger.warning("stopped after step %d of %d; its checkpoint is saved", self._step, steps)
                return RunResult(self._step, interrupted=True)
        if self._step not in self._saved_steps():
            self._save_checkpoint()
        write_folder(self._out / "final", self._policy.save_pretrained)
        return RunResult(self._step, interrupted=False)

    def _begin(self, resume: bool) -> None:
        if not resume and (self._metrics.path.exists() or self._saved_steps()):
            raise ValueError(f"{self._out} already holds a run; resume it or choose another folder")
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        clear_partial(self._checkpoints)
        clear_partial(self._out)
        found = list_checkpoints(self._checkpoints)
        if found:
            self._restore(load_checkpoint(found[-1]))
            logger.info("resuming after step %d", self._step)
        else:
            torch.manual_seed(self._settings.seed)
        self._metrics.rewind(self._step or -1)  # a run without a checkpoint looks again at step 0
        self._samples.rewind(self._step)
        self._random = random_state()

    def _train_step(self) -> dict[str, float]:
        settings = self._settings
        began = time.perf_counter()
        batch = self._rollouts(self._step + 1)
        sampled = time.perf_counter()
        self._random = {}
        metrics = update(
            self._policy,
            batch,
            self._optimizer,
            settings.pairgrpo,
            step=self._step + 1,
            learning_rate=learning_rate_at(self._step + 1, settings.pairgrpo),
            reference=self._reference,
        )
        self._step += 1
        self._random = random_state()
        ended = time.perf_counter()
        new_tokens = sum(int(batch.task(task).lengths.sum()) for task in TASKS)
        prompts = sum(len(t.prompt_ids) for task in TASKS for t in batch.task(task).trajectories)
        self._num_tokens += new_tokens + prompts
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
        if self._due(settings.logging.samples_every):
            save_samples(self._samples.path.parent, batch, step=self._step)
        try:
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
            for index in range(grpo.gradient_accumulation):
                chosen = order[index * grpo.pairs_per_step : (index + 1) * grpo.pairs_per_step]
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
                        std_guard=grpo.std_guard,
                    )
                )
            return RolloutBatch.join([finish() for finish in begun])

    @property
    def _checkpoints(self) -> Path:
        return self._out / "checkpoints"

    def _saved_steps(self) -> list[int]:
        return [int(path.name.removeprefix("step-")) for path in list_checkpoints(self._checkpoints)]

    def _due(self, every: int) -> bool:
        return every > 0 and self._step % every == 0

    def _save_checkpoint(self) -> None:
        checkpoint = Checkpoint(
            step=self._step,
            tensors={
                "trained": self._optimizer.weights(),
                "optimizer": self._optimizer.state(),
                "random": self._random,
            },
            state=self._run_state(),
        )
        save_checkpoint(self._checkpoints, checkpoint, keep=self._settings.checkpoint.keep)

    def _run_state(self) -> dict[str, Any]:
        content = "\n".join(pair.model_dump_json() for pair in self._pairs)
        return {
            "num_tokens": self._num_tokens,
            "seed": self._settings.seed,
            "pairs_per_update": self.pairs_per_update,
            "pairs_sha256": hashlib.sha256(content.encode()).hexdigest(),
        }

    def _restore(self, checkpoint: Checkpoint) -> None:
        now = self._run_state()
        for key, meaning in (
            ("seed", "seed"),
            ("pairs_per_update", "number of pairs a step"),
            ("pairs_sha256", "pairs"),
        ):
            if checkpoint.state[key] != now[key]:
                raise ValueError(
                    f"cannot resume in {self._out}: the {meaning} differ from those of its checkpoint"
                )
        self._optimizer.load(dict(checkpoint.tensors["trained"]), dict(checkpoint.tensors["optimizer"]))
        set_random_state(checkpoint.tensors["random"])
        self._step = checkpoint.step
        self._num_tokens = checkpoint.state["num_tokens"]


def _status(row: Mapping[str, float]) -> str:
    return f"reward understanding {row['understanding/reward']:.3f} generation {row['generation/reward']:.3f}"
