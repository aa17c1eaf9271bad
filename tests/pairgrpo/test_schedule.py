"""The number of steps of a run and the learning rate of each, against literal formulas and transformers."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import rows, trainer
from transformers import (
    TrainingArguments,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from pair_batches import run_settings
from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.schedule import learning_rate_at, steps_of, warmup_of
from pairuni.runs.folder import RunFolder
from pairuni.runs.state import check_settings
from pairuni.training.checkpoint import list_checkpoints, load_state

STEPS = 20
RATE = 3e-4
SCHEDULES = ("constant", "linear", "cosine")


def settings(**changes: Any) -> PairGRPOSettings:
    return PairGRPOSettings(**({"steps": STEPS, "learning_rate": RATE} | changes))


def rates(chosen: PairGRPOSettings, steps: int = STEPS) -> list[float]:
    return [learning_rate_at(step, chosen, steps) for step in range(1, steps + 1)]


def literal(schedule: str, warmup: int, floor: float) -> list[float]:
    found = []
    for step in range(1, STEPS + 1):
        if step <= warmup:
            found.append(RATE * step / warmup)
            continue
        done = (step - 1 - warmup) / (STEPS - warmup)
        fallen = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[schedule]
        found.append(RATE * floor + RATE * (1 - floor) * fallen)
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 1, 6, 19, 20, 30])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_the_rate_of_every_step(schedule: str, warmup: int, floor: float) -> None:
    chosen = settings(schedule=schedule, warmup_steps=warmup, min_learning_rate_share=floor)
    assert rates(chosen) == pytest.approx(literal(schedule, warmup, floor), rel=1e-12)
    assert min(rates(chosen)) > 0.0


def of_transformers(schedule: str, warmup: int) -> list[float]:
    """The rates of 20 updates."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    if schedule == "constant":
        scheduler = get_constant_schedule_with_warmup(optimizer, warmup)
    else:
        make = get_linear_schedule_with_warmup if schedule == "linear" else get_cosine_schedule_with_warmup
        scheduler = make(optimizer, warmup, STEPS)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 5])
def test_transformers_has_the_same_rates_but_for_a_warm_up_that_begins_at_zero(
    schedule: str, warmup: int
) -> None:
    ours, theirs = rates(settings(schedule=schedule, warmup_steps=warmup)), of_transformers(schedule, warmup)
    assert ours[warmup:] == pytest.approx(theirs[warmup:], rel=1e-12)
    assert ours[: max(warmup - 1, 0)] == pytest.approx(theirs[1:warmup], rel=1e-12)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.15, 0.3, 0.999])
@pytest.mark.parametrize("steps", [1, 7, 10, 100, 1200])
def test_a_warm_up_share_is_rounded_up_as_in_transformers(share: float, steps: int, tmp_path: Path) -> None:
    exact = Fraction(str(share)) * steps
    warmup = warmup_of(settings(warmup_share=share), steps)
    assert warmup == math.ceil(exact)
    arguments = TrainingArguments(output_dir=str(tmp_path), warmup_steps=share, use_cpu=True)
    # theirs rounds the floating-point product up, which may be a step more
    assert warmup <= arguments.get_warmup_steps(steps) <= warmup + 1
    assert rates(settings(warmup_share=share), steps) == rates(settings(warmup_steps=warmup), steps)


@pytest.mark.parametrize("epochs", ["0.1", "0.5", "1", "1.5", "3"])
@pytest.mark.parametrize("pairs", [1, 7, 30, 1000])
@pytest.mark.parametrize("size", [(2, 1), (3, 1), (4, 4)])
def test_epochs_end_with_the_step_that_completes_them(epochs: str, pairs: int, size: tuple[int, int]) -> None:
    chosen = PairGRPOSettings(epochs=float(epochs), pairs_per_batch=size[0], batches_per_step=size[1])
    steps, wanted = steps_of(chosen, pairs), Fraction(epochs) * pairs
    together = size[0] * size[1]
    assert steps * together >= wanted
    assert steps == 1 or (steps - 1) * together < wanted
    assert steps_of(chosen.model_copy(update={"tasks": "alternating"}), pairs) == 2 * steps
    assert steps_of(chosen.model_copy(update={"epochs": None}), pairs) == 1200


SCHEDULED = {
    "steps": 1200,
    "pairs_per_batch": 2,
    "learning_rate": 0.05,
    "schedule": "cosine",
    "warmup_share": 0.3,
    "min_learning_rate_share": 0.2,
}


def test_a_run_of_epochs_has_their_steps_and_rates_also_after_a_resume(tmp_path: Path) -> None:
    """2.4 epochs of 5 pairs, 2 a step, are 6 steps."""
    scheduled = run_settings(pairgrpo=SCHEDULED | {"epochs": 2.4})
    full = trainer(tmp_path, tmp_path / "full", scheduled)
    assert full.steps == 6
    assert full.run().steps == 6
    history = rows(tmp_path / "full")
    own = [learning_rate_at(step, scheduled.pairgrpo, 6) for step in range(1, 7)]
    assert [row["learning_rate"] for row in history] == own
    assert own[:2] == pytest.approx([0.025, 0.05])
    assert own[-1] == pytest.approx(0.01 + 0.04 * (1 + math.cos(math.pi * 3 / 4)) / 2)
    assert history[-1]["epoch"] == pytest.approx(2.4)

    out = tmp_path / "cut"
    trainer(tmp_path, out, run_settings(pairgrpo=SCHEDULED | {"epochs": 1.2})).run()
    _, state = load_state(list_checkpoints(out / "checkpoints")[-1])
    assert state["steps"] == 3
    trainer(tmp_path, out, scheduled).run(resume=True)
    assert [row["learning_rate"] for row in rows(out)][3:] == own[3:]


def test_fewer_epochs_than_are_trained_do_not_resume(tmp_path: Path) -> None:
    trainer(tmp_path, tmp_path / "run", run_settings(pairgrpo=SCHEDULED | {"epochs": 2.4})).run()
    fewer = run_settings(pairgrpo=SCHEDULED | {"epochs": 0.8})
    check_settings(RunFolder(tmp_path / "run"), fewer)  # the number of pairs is not known yet
    with pytest.raises(ValueError, match=r"already at step 6, beyond the 2 of pairgrpo.epochs = 0.8"):
        trainer(tmp_path, tmp_path / "run", fewer).run(resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 6, "epochs": 2.0}, r"steps is 6 and pairgrpo.epochs is 2, but only one .* default, 1200"),
        ({"warmup_steps": 3, "warmup_share": 0.1}, r"warmup_steps is 3 and pairgrpo.warmup_share is 0.1"),
        ({"min_learning_rate_share": 0.1}, r"pairgrpo.schedule is constant; set it to linear or cosine"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_settings(pairgrpo=changes)
