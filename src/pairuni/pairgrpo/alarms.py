"""What goes wrong in a run without an error, said in the log: slow ranks, drift, overfitting, a nearly full disk."""

from __future__ import annotations

import itertools
import logging
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pairuni.records import TASKS

logger = logging.getLogger("pairuni")

QUIET = 50
"""Steps before an alarm of the same kind is repeated."""
SLOW = 1.5
"""A rank is far slower than the others above this multiple of the median..."""
SLOW_STEPS = 5
"""... in this many steps in a row."""
_SHORT = 0.1
"""Seconds: shorter differences are never called slow."""
DRIFT = 10.0
"""Sampled and replayed log-probs drift apart above this multiple of their first difference..."""
DRIFT_LEAST = 1e-2
"""... if the mean difference is also above this, in nats per token."""
_FIRST = 10
"""Steps whose differences are the first ones."""
EVALUATIONS = 3
"""Held-out evaluations over which a falling score and a rising reward are compared."""
LEAST_FREE = 10**9
"""Bytes that should stay free on the disk."""
_CHECKPOINTS = 3
"""Checkpoints for which there should be space."""

_DIFFERENCE = "sampling/sampling_logp_difference/mean"


class Alarms:
    """Called after every step with its row of metrics; logs a warning of each kind at most every ``QUIET`` steps.

    root: the run's folder. checkpoint_bytes: size of a checkpoint.
    """

    def __init__(self, root: Path, checkpoint_bytes: int) -> None:
        self._root = root
        self._checkpoint_bytes = checkpoint_bytes
        self._said: dict[str, int] = {}
        self._slow: dict[tuple[str, int], int] = {}
        self._differences: dict[str, list[float]] = {}
        self._rewards: dict[str, list[float]] = {}
        self._evaluations: dict[str, list[tuple[float, float]]] = {}

    def remember(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """Take in the metrics of earlier steps of a run that resumes."""
        for row in rows:
            self._note(row)

    def after_step(
        self, row: Mapping[str, float | None], seconds: Sequence[Mapping[str, float]] = ()
    ) -> None:
        """Check a step. seconds: for each rank, how long its own work took, by phase."""
        step = int(row["step"] or 0)
        self._note(row)
        self._check_ranks(step, seconds)
        self._check_drift(step, row)
        self._check_held_out(step, row)
        self._check_disk(step)

    def _note(self, row: Mapping[str, float | None]) -> None:
        for task in TASKS:
            difference, reward = row.get(f"{task}/{_DIFFERENCE}"), row.get(f"{task}/reward")
            if difference is not None and len(self._differences.setdefault(task, [])) < _FIRST:
                self._differences[task].append(difference)
            if reward is not None:
                self._rewards.setdefault(task, []).append(reward)
            score, rewards = row.get(f"eval/{task}"), self._rewards.get(task)
            if score is not None and rewards:
                self._evaluations.setdefault(task, []).append((score, statistics.fmean(rewards)))
                rewards.clear()

    def _check_ranks(self, step: int, seconds: Sequence[Mapping[str, float]]) -> None:
        for phase in seconds[0] if len(seconds) > 1 else ():
            values = [row[phase] for row in seconds]
            median = statistics.median_low(values)
            for rank, value in enumerate(values):
                slow = value > SLOW * median and value > median + _SHORT
                count = self._slow.get((phase, rank), 0) + 1 if slow else 0
                self._slow[phase, rank] = count
                if count >= SLOW_STEPS:
                    self._say(
                        f"slow {phase}",
                        step,
                        f"rank {rank} is far slower than the others: its {phase} took {value:.1f} seconds, the median "
                        f"of the ranks is {median:.1f}, and so for {count} steps; all ranks wait for it. Look for "
                        "other programs on its GPU or machine, or for a GPU that is too hot",
                    )

    def _check_drift(self, step: int, row: Mapping[str, float | None]) -> None:
        for task in TASKS:
            value, first = row.get(f"{task}/{_DIFFERENCE}"), self._differences.get(task, ())
            if value is None or len(first) < _FIRST:
                continue
            usual = statistics.median(first)
            if value > DRIFT_LEAST and value > DRIFT * usual:
                self._say(
                    f"drift {task}",
                    step,
                    f"the log-probs of sampled {task} tokens differ by {value:.2g} on average from those of the "
                    f"replay, {usual:.2g} in the first steps of the run: sampling and training no longer use the same "
                    "distribution. Weights that grow, or a low-precision policy.dtype, can cause this; a smaller "
                    "pairgrpo.learning_rate or float32 helps",
                )

    def _check_held_out(self, step: int, row: Mapping[str, float | None]) -> None:
        for task in TASKS:
            last = self._evaluations.get(task, [])[-EVALUATIONS:]
            if row.get(f"eval/{task}") is None or len(last) < EVALUATIONS:
                continue
            steps = itertools.pairwise(last)
            if all(new[0] < old[0] and new[1] > old[1] for old, new in steps):
                self._say(
                    f"held out {task}",
                    step,
                    f"over the last {EVALUATIONS} evaluations the {task} reward rose from {last[0][1]:.3f} to "
                    f"{last[-1][1]:.3f} while the held-out score fell from {last[0][0]:.3f} to {last[-1][0]:.3f}: the "
                    "policy may be learning the training pairs, or a weakness of the reward, instead of the task",
                )

    def _check_disk(self, step: int) -> None:
        wanted = max(LEAST_FREE, _CHECKPOINTS * self._checkpoint_bytes)
        try:
            free = shutil.disk_usage(self._root).free
        except OSError:
            return
        if free < wanted:
            self._say(
                "disk",
                step,
                f"the disk of {self._root} is nearly full: {free / 1e9:.1f} GB are free, and {_CHECKPOINTS} "
                f"checkpoints need {_CHECKPOINTS * self._checkpoint_bytes / 1e9:.1f} GB; free some space",
            )

    def _say(self, kind: str, step: int, sentence: str) -> None:
        if step - self._said.get(kind, -QUIET) >= QUIET:
            self._said[kind] = step
            logger.warning("step %d: %s", step, sentence)
