"""Training from a recipe: the run's folder, its plan, its report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pairuni.cli.errors import Interrupted
from pairuni.config import RunSettings, load_settings, to_toml
from pairuni.distributed.shares import refuse_several
from pairuni.io.files import write_text
from pairuni.io.locks import folder_lock
from pairuni.records import UGPair

if TYPE_CHECKING:
    from pairuni.pairgrpo.rollout import Rewards
    from pairuni.policies.policy import UnifiedPolicy


@dataclass(frozen=True)
class _Ready:
    """What a run has before its weights are loaded. images: digest of those that it asks about."""

    rewards: Rewards
    pairs: Sequence[UGPair]
    held_out: Sequence[UGPair]
    skeleton: UnifiedPolicy
    pictures: str


def train(recipe: Path, overrides: Sequence[str], out: Path | None, *, resume: bool, dry_run: bool) -> None:
    """Train by ``recipe`` into ``out`` (runs/<recipe's name> when None), or print what that would take.

    Raises Interrupted when Ctrl-C ended the run; its work is saved.
    """
    settings = load_settings(RunSettings, recipe, overrides)
    refuse_several(os.environ, "train")
    out = out or Path("runs") / recipe.stem
    if not settings.data.pairs.is_file():
        raise FileNotFoundError(f"{settings.data.pairs}: no such pair file; `pairuni pairs build` makes one")
    if dry_run:
        _print_plan(settings)
        return
    with folder_lock(out, "train"):
        _check_folder(out, resume=resume)
        _train(settings, out, resume=resume)


def _check_folder(out: Path, *, resume: bool) -> None:
    begun = [name for name in ("config.toml", "metrics.jsonl", "checkpoints") if (out / name).exists()]
    if begun and not resume:
        raise ValueError(f"{out} already holds a run; add --resume to continue it, or give another --out")
    if resume and not begun:
        raise ValueError(f"{out} holds no run to resume; leave out --resume to start one there")


def _train(settings: RunSettings, out: Path, *, resume: bool) -> None:
    from pairuni.evaluation.in_training import evaluation_in_training
    from pairuni.pairgrpo.resuming import check_before_loading, describe_settings
    from pairuni.pairgrpo.trainer import Trainer
    from pairuni.report import write_report
    from pairuni.runs.models import load_model

    if resume:
        check_before_loading(out, settings)
    ready = _prepared(settings)
    evaluate = evaluation_in_training(settings, ready.held_out, ready.rewards, out)
    chosen = settings.policy
    policy = load_model(chosen.model, device=chosen.device, dtype=chosen.dtype)
    trainer = Trainer(
        settings, policy, ready.pairs, ready.rewards, out, evaluate=evaluate, pictures=ready.pictures
    )
    began = time.monotonic()

    def begun() -> None:
        # not before: a resume that is refused leaves the settings of the run that is there
        write_text(out / "config.toml", describe_settings(out, settings))

    result = trainer.run(resume=resume, begun=begun)
    if result.interrupted:
        raise Interrupted(
            f"stopped after step {result.steps} of {settings.pairgrpo.steps}; "
            f"the same command with --out {out} --resume continues"
        )
    summary = {
        "seed": settings.seed,
        "steps": result.steps,
        "seconds": round(time.monotonic() - began, 1),
        "pairs": str(settings.data.pairs.resolve()),
    }
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    typer.echo(f"trained model: {out / 'final'}")
    typer.echo(f"report: {write_report(out)}")


def _prepared(settings: RunSettings) -> _Ready:
    """Everything checked that can be checked without weights. Raises ValueError naming file, line and field."""
    from pairuni.pairgrpo.trainer import load_rewards
    from pairuni.runs.models import load_model

    rewards = load_rewards(settings.reward)
    pairs, held_out = _pairs(settings, rewards)
    chosen = settings.policy
    skeleton = load_model(chosen.model, device=chosen.device, dtype=chosen.dtype, weights=False)
    skeleton.train_only(chosen.trainable)
    pictures = _checked(skeleton, pairs, settings, settings.data.pairs)
    if held_out:
        _checked(skeleton, held_out, settings, settings.evaluation.pairs or settings.data.pairs)
    return _Ready(rewards, pairs, held_out, skeleton, pictures)


def _checked(skeleton: UnifiedPolicy, pairs: Sequence[UGPair], settings: RunSettings, file: Path) -> str:
    """The digest of the images that these pairs of ``file`` ask about."""
    from pairuni.pairgrpo.preflight import UnusablePairs, check_pairs, summary
    from pairuni.pairug.dataset.places import find_places

    try:
        return check_pairs(skeleton, pairs, settings.rollout, file.parent)
    except UnusablePairs as error:
        places = find_places(file, {(fault.field, fault.value) for fault in error.faults})
        raise ValueError(
            summary(
                [
                    f"{places.get((fault.field, fault.value), f'{file}, field {fault.field}')}: {fault.said}"
                    for fault in error.faults
                ]
            )
        ) from None


def _pairs(settings: RunSettings, rewards: Rewards) -> tuple[list[UGPair], list[UGPair]]:
    """Pairs to train on, and those that evaluation looks at.

    Raises ValueError when one lacks what the rewards need.
    """
    from pairuni.pairug.dataset.pairings import ORIGINS, load_pairing, sample_held_out
    from pairuni.rewards.weighted import check_needs

    data, looks = settings.data, settings.evaluation
    held_out: list[UGPair] = []
    if looks.every and looks.task == "pairs":
        held_out = sample_held_out(looks.pairs or data.pairs, looks.items, seed=settings.seed)
    pairs = load_pairing(
        data.pairs,
        data.pairing,
        seed=settings.seed,
        budget=data.budget,
        held_out=held_out,
        held_out_folder=(looks.pairs or data.pairs).parent,
        sides=[task for task in ORIGINS if getattr(settings.pairgrpo, f"{task}_weight") > 0.0],
        most_excluded=looks.most_excluded,
    )
    check_needs(rewards.understanding, [pair.understand_ann for pair in [*pairs, *held_out]])
    check_needs(rewards.generation, [pair.generate_ann for pair in [*pairs, *held_out]])
    return pairs, held_out


def _print_plan(settings: RunSettings) -> None:
    from pairuni.cli.plan import describe_cards, describe_plan, describe_reward_models
    from pairuni.pairgrpo.plan import plan_run, reward_model_bytes

    ready = _prepared(settings)
    policy = ready.skeleton
    held = next(policy.module.parameters()).dtype
    typer.echo(to_toml(settings))
    typer.echo(f"{'pairs':<20}{len(ready.pairs):,} ({settings.data.pairing})")
    if ready.held_out:
        every = settings.evaluation.every
        when = "after every step" if every == 1 else f"every {every:,} steps"
        typer.echo(f"{'held-out pairs':<20}{len(ready.held_out):,}, evaluated {when}")
    typer.echo(f"{'policy':<20}{policy.name}, {str(held).removeprefix('torch.')}")
    plan = plan_run(settings, policy, held)
    typer.echo(describe_plan(plan))
    models = reward_model_bytes(ready.rewards)
    if rows := describe_reward_models(models):
        typer.echo(rows)
    typer.echo(describe_cards(plan, held, models.total()))
