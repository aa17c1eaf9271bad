"""Training runs from settings to final model and report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairuni.config import RunSettings, load_settings
from pairuni.io.files import write_text
from pairuni.io.locks import folder_lock
from pairuni.pairug.dataset.store import check_pair_file
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog

if TYPE_CHECKING:
    from pairuni.distributed.world import World
    from pairuni.pairgrpo.rollout import Rewards


@dataclass(frozen=True)
class TrainingResult:
    """A training run that has ended.

    folder: of the run; ``load_model(folder)`` loads its model. steps: the last complete step. planned: the last step of
    the complete run. interrupted: Ctrl-C or a signal ended the run before its last step; ``train(..., resume=True)``
    continues it. scores: of the last held-out evaluation, by task; empty if ``evaluation.every`` is 0.
    """

    folder: Path
    steps: int
    planned: int
    interrupted: bool
    scores: Mapping[str, float]

    @property
    def model(self) -> Path:
        """The folder of the trained model, an adapter if one was trained; written when the run is complete."""
        return RunFolder(self.folder).final

    @property
    def report(self) -> Path:
        """The run as an HTML page, written when the run is complete."""
        return RunFolder(self.folder).report

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one per step; step 0 has the scores of the untrained policy, if evaluated."""
        return MetricsLog(RunFolder(self.folder).metrics).rows()


def train(
    settings: RunSettings | str | Path,
    *,
    out: str | Path,
    resume: bool = False,
    rewards: Rewards | None = None,
) -> TrainingResult:
    """Train with PairGRPO (arXiv:2510.25682, section 2.2), as ``pairuni train`` does.

    Metrics, samples, checkpoints, the trained model and a report are written to ``out``. Ctrl-C lets the step finish,
    saves a checkpoint and returns a result with ``interrupted``. In a script that torchrun starts, all processes call
    this function and share the work.

    settings: of the run, or its recipe, a TOML file or the name of a shipped one. out: folder of the run. resume:
    continue the run in ``out`` from its newest checkpoint. rewards: instead of those that ``settings.reward`` names.

    Raises FileNotFoundError if there is no pair file, ImportError if a package is missing, ValueError for settings,
    pairs or a folder that cannot be used, RewardError, SamplingError and GradientError as they occur; the state after
    the last complete step is then saved.
    """
    if not isinstance(settings, RunSettings):
        settings = load_settings(RunSettings, settings)
    check_first(settings)
    from pairuni.distributed.world import joined

    with joined(settings.distributed.timeout) as world:
        return train_in(settings, RunFolder(Path(out)), world, resume=resume, rewards=rewards)


def check_first(settings: RunSettings) -> None:
    """What can be checked before heavy imports.

    Raises as ``check_pair_files`` does, and ImportError if the package of a tracker is not installed.
    """
    for name in settings.logging.to:
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, such as wandb's, is no package
            raise ImportError(
                f"logging.to names {name}, which is not installed: pip install 'pairuni[{name}]'"
            )
    check_pair_files(settings)


def check_pair_files(settings: RunSettings) -> None:
    """Raise FileNotFoundError if a pair file is missing, ValueError if its images are not files."""
    for path in (settings.data.pairs, settings.evaluation.pairs):
        if path is not None:
            check_pair_file(path)


def train_in(
    settings: RunSettings,
    run: RunFolder,
    world: World,
    *,
    resume: bool,
    rewards: Rewards | None = None,
    begun: Callable[[], None] | None = None,
) -> TrainingResult:
    """``train`` on the processes of ``world``. begun: called on each rank before the first step."""
    with folder_lock(run.root, "train") if world.is_main else nullcontext():
        resume = world.on_main(lambda: _resumes(run, resume))
        return _train(settings, run, world, resume=resume, rewards=rewards, begun=begun)


def _resumes(run: RunFolder, resume: bool) -> bool:
    """Whether the run continues one in its folder; also without --resume if torchrun has restarted it."""
    begun = any(path.exists() for path in (run.config, run.metrics, run.checkpoints))
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        return begun
    if begun and not resume:
        raise ValueError(
            f"{run.root} already holds a run; add --resume to continue it, or give another --out"
        )
    if resume and not begun:
        raise ValueError(f"{run.root} has no run to resume; leave out --resume to start one")
    return resume


def _train(
    settings: RunSettings,
    run: RunFolder,
    world: World,
    *,
    resume: bool,
    rewards: Rewards | None,
    begun: Callable[[], None] | None,
) -> TrainingResult:
    from pairuni.evaluation.in_training import evaluation_in_training
    from pairuni.pairgrpo.preparation import prepare_run, strategy_for
    from pairuni.pairgrpo.trainer import Trainer
    from pairuni.report import write_report
    from pairuni.runs.history import describe_settings
    from pairuni.runs.models import load_for_run
    from pairuni.runs.run import write_summary
    from pairuni.runs.state import check_settings
    from pairuni.trackers.services import trackers_of

    if resume:
        check_settings(run, settings)
    prepared = prepare_run(settings, world, rewards)
    # raises for a folder that was evaluated on other items, before the weights are loaded
    evaluate = evaluation_in_training(settings, prepared.held_out, prepared.rewards, run.root, world)
    policy = load_for_run(settings.policy)
    trackers = trackers_of(settings, run)
    trainer = Trainer(
        settings,
        policy,
        prepared.pairs,
        prepared.rewards,
        run.root,
        evaluate=evaluate,
        trackers=trackers,
        images_digest=prepared.images_digest,
        strategy=strategy_for(settings, policy, world, prepared.rewards, prepared.most_images),
    )
    began = time.monotonic()

    def begin() -> None:
        if begun is not None:
            begun()
        # config.toml is written only when a resume is accepted: until then it describes the run that is there
        if world.is_main:
            write_text(run.config, describe_settings(run, settings))

    with trackers:
        result = trainer.run(resume=resume, begun=begin)
    if world.is_main and not result.interrupted:
        summary = {
            "seed": settings.seed,
            "steps": result.steps,
            "seconds": round(time.monotonic() - began + result.earlier_seconds, 1),
            "pairs": str(settings.data.pairs.resolve()),
        }
        write_summary(run, summary)
        write_report(run.root)
    scores = world.on_main(lambda: _last_scores(run))
    return TrainingResult(run.root, result.steps, result.planned, result.interrupted, scores)


def _last_scores(run: RunFolder) -> dict[str, float]:
    """Scores of the last held-out evaluation, by task."""
    for row in reversed(MetricsLog(run.metrics).rows()):
        if scores := {name.removeprefix("eval/"): row[name] for name in row if name.startswith("eval/")}:
            return scores
    return {}
