"""The parts of a study, each in a process of its own: python -m pairuni.studies.work (world | base | run) FOLDER."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pairuni.config import RunSettings, load_settings
from pairuni.console.sentences import EXPECTED
from pairuni.digits.questions import QUESTION_SETS
from pairuni.digits.world import write_world
from pairuni.evaluation.in_training import evaluation_in_training
from pairuni.io.files import remove_folder, write_text
from pairuni.io.locks import exclusive_lock
from pairuni.pairgrpo.preparation import PreparedRun, prepare_run
from pairuni.pairgrpo.trainer import Trainer
from pairuni.policies.policy import UnifiedPolicy
from pairuni.runs.folder import RunFolder, step_name
from pairuni.runs.models import load_for_run
from pairuni.studies.results import curves_from, numbers_of_pairs
from pairuni.trackers.services import trackers_of

SETTINGS = "config.toml"
"""Settings of the run, in its folder."""
WORLD = "world.json"
"""Name, seed and samples of the raw data that is written into a folder."""
OUTCOME = "outcome.json"
"""What the run adds to its result; written last."""
INTERRUPTED = 130


def make_world(folder: Path) -> None:
    """Write the raw data that ``folder``/world.json describes to ``folder``/world."""
    chosen = json.loads((folder / WORLD).read_text())
    write_world(
        folder / "world",
        seed=chosen["seed"],
        understanding=chosen["samples"],
        generation=chosen["samples"],
        questions=QUESTION_SETS[chosen["world"]],
    )


def evaluate_base(folder: Path) -> None:
    """Score the policy before training; the file is that of step 0."""
    settings = load_settings(RunSettings, folder / SETTINGS)
    _evaluate(settings, prepare_run(settings), _policy(settings), folder, step=0)


def train_cell(folder: Path) -> bool:
    """Train a run, or resume it, and score it; whether it has reached its end."""
    settings = load_settings(RunSettings, folder / SETTINGS)
    began = time.monotonic()
    prepared = prepare_run(settings)
    policy = _policy(settings)
    run = RunFolder(folder)
    with trackers_of(settings, run) as trackers:
        result = Trainer(
            settings,
            policy,
            prepared.pairs,
            prepared.rewards,
            folder,
            trackers=trackers,
            images_digest=prepared.images_digest,
        ).run(resume=True)
    if result.interrupted:
        return False
    _evaluate(settings, prepared, policy, folder, step=result.steps)
    pairs = prepared.pairs
    outcome = {
        "seconds": round(time.monotonic() - began + result.earlier_seconds, 1),
        "steps": result.steps,
        "pairs": numbers_of_pairs([pair.similarity for pair in pairs], [pair.kind for pair in pairs]),
        "curves": curves_from(run.metrics),
    }
    write_text(folder / OUTCOME, json.dumps(outcome) + "\n")
    remove_folder(run.checkpoints)
    return True


def evaluation_file(folder: Path, step: int) -> Path:
    """Where the scores of a step are."""
    return RunFolder(folder).evaluation / f"{step_name(step)}.json"


def _policy(settings: RunSettings) -> UnifiedPolicy:
    return load_for_run(settings.policy)


def _evaluate(
    settings: RunSettings, prepared: PreparedRun, policy: UnifiedPolicy, folder: Path, *, step: int
) -> Mapping[str, float]:
    evaluate = evaluation_in_training(settings, prepared.held_out, prepared.rewards, folder)
    assert evaluate is not None, "cells are evaluated at their last step"
    return evaluate(policy, step)


def _end_with_parent() -> None:
    """Stop this process, as SIGTERM does, when the study that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    _end_with_parent()
    # a process of an earlier, killed study may still be saving its checkpoint here
    with exclusive_lock(folder / ".lock"):
        if kind == "world":
            make_world(folder)
        elif kind == "base":
            evaluate_base(folder)
        else:
            return 0 if train_cell(folder) else INTERRUPTED
    return 0


if __name__ == "__main__":
    try:
        code = main()
    except EXPECTED as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)
