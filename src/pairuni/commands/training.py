"""Training from a recipe: the run's folder, its plan, its report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pairuni.commands.errors import Interrupted
from pairuni.commands.evaluation import in_training
from pairuni.config import RunSettings, load_settings, to_toml
from pairuni.files import write_text
from pairuni.locks import folder_lock
from pairuni.records import UGPair
from pairuni.shares import refuse_several

if TYPE_CHECKING:
    from pairuni.pairgrpo.rollout import Rewards


def train(recipe: Path, overrides: Sequence[str], out: Path | None, *, resume: bool, dry_run: bool) -> None:
    """Train by ``recipe`` into ``out`` (runs/<recipe's name> when None), or print what that would take.

    Raises Interrupted when Ctrl-C ended the run; its work is saved.
    """
    settings = load_settings(RunSettings, recipe, overrides)
    refuse_several(os.environ, "train")
    out = out or Path("runs") / recipe.stem
    if not dry_run and not resume and (out / "config.toml").exists():
        raise ValueError(f"{out} already holds a run; add --resume to go on with it, or give another --out")
    if not settings.data.pairs.is_file():
        raise FileNotFoundError(f"{settings.data.pairs}: no such pair file; `pairuni pairs build` makes one")
    if dry_run:
        _print_plan(settings)
        return

    with folder_lock(out, "train"):
        _train(settings, out, resume=resume)


def _train(settings: RunSettings, out: Path, *, resume: bool) -> None:
    from pairuni.pairgrpo.trainer import Trainer, load_rewards
    from pairuni.policies.registry import load_policy
    from pairuni.report import write_report

    rewards = load_rewards(settings.reward)
    pairs, held_out = _pairs(settings, rewards)
    policy = load_policy(settings.policy.model, device=settings.policy.device, dtype=settings.policy.dtype)
    evaluate = in_training(settings, held_out, rewards, out)
    trainer = Trainer(settings, policy, pairs, rewards, out, evaluate=evaluate)
    began = time.monotonic()
    # not before: a resume that is refused leaves the settings of the run that is there
    result = trainer.run(resume=resume, begun=partial(write_text, out / "config.toml", to_toml(settings)))
    if result.interrupted:
        raise Interrupted(
            f"stopped after step {result.steps} of {settings.pairgrpo.steps}; "
            f"the same command with --out {out} --resume goes on"
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


def _pairs(settings: RunSettings, rewards: Rewards) -> tuple[list[UGPair], list[UGPair]]:
    """Pairs to train on, and those that evaluation looks at.

    Raises ValueError when one lacks what the rewards need.
    """
    from pairuni.pairug.pairings import draw_held_out, load_pairing
    from pairuni.rewards.weighted import check_needs

    data, looks = settings.data, settings.evaluation
    held_out: list[UGPair] = []
    if looks.every and looks.task == "pairs":
        held_out = draw_held_out(looks.pairs or data.pairs, looks.items, seed=settings.seed)
    pairs = load_pairing(
        data.pairs,
        data.pairing,
        seed=settings.seed,
        budget=data.budget,
        held_out=held_out,
        held_out_folder=(looks.pairs or data.pairs).parent,
    )
    check_needs(rewards.understanding, [pair.understand_ann for pair in [*pairs, *held_out]])
    check_needs(rewards.generation, [pair.generate_ann for pair in [*pairs, *held_out]])
    return pairs, held_out


def _print_plan(settings: RunSettings) -> None:
    import torch

    from pairuni.commands.plan import describe, describe_models, plan_run
    from pairuni.pairgrpo.trainer import load_rewards
    from pairuni.policies.registry import load_policy

    chosen = settings.policy
    rewards = load_rewards(settings.reward)
    pairs, held_out = _pairs(settings, rewards)
    on_gpu = chosen.device != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    dtype = "bfloat16" if chosen.dtype == "auto" and on_gpu else chosen.dtype
    policy = load_policy(chosen.model, device="cpu", dtype=dtype)
    held = next(policy.module.parameters()).dtype
    typer.echo(to_toml(settings))
    typer.echo(f"{'pairs':<20}{len(pairs):,} ({settings.data.pairing})")
    if held_out:
        typer.echo(
            f"{'held-out pairs':<20}{len(held_out):,}, looked at every {settings.evaluation.every} steps"
        )
    typer.echo(f"{'policy':<20}{policy.name}, {str(held).removeprefix('torch.')}")
    typer.echo(describe(plan_run(settings, policy, held)))
    if rows := describe_models(rewards):
        typer.echo(rows)
