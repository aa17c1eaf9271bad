"""pairuni train."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.cli.errors import Interrupted
from pairuni.config import RunSettings, load_settings, to_toml
from pairuni.distributed.shares import refuse_several
from pairuni.io.files import write_text
from pairuni.io.locks import folder_lock
from pairuni.runs.folder import RunFolder


def train(recipe: Path, overrides: Sequence[str], out: Path | None, *, resume: bool, dry_run: bool) -> None:
    """Train by ``recipe`` into ``out`` (default: runs/<name of the recipe>), or print the plan of such a run.

    Raises Interrupted if Ctrl-C ended the run; its work is saved.
    """
    settings = load_settings(RunSettings, recipe, overrides)
    refuse_several(os.environ, "train")
    if not settings.data.pairs.is_file():
        raise FileNotFoundError(f"{settings.data.pairs}: no such pair file; `pairuni pairs build` makes one")
    if dry_run:
        _print_plan(settings)
        return
    run = RunFolder(out or Path("runs") / recipe.stem)
    with folder_lock(run.root, "train"):
        begun = any(path.exists() for path in (run.config, run.metrics, run.checkpoints))
        if begun and not resume:
            raise ValueError(
                f"{run.root} already holds a run; add --resume to continue it, or give another --out"
            )
        if resume and not begun:
            raise ValueError(f"{run.root} has no run to resume; leave out --resume to start one")
        _train(settings, run, resume=resume)


def _train(settings: RunSettings, run: RunFolder, *, resume: bool) -> None:
    from pairuni.evaluation.in_training import evaluation_in_training
    from pairuni.pairgrpo.preparation import prepare_run
    from pairuni.pairgrpo.trainer import Trainer
    from pairuni.report import write_report
    from pairuni.runs.history import describe_settings
    from pairuni.runs.models import load_model
    from pairuni.runs.run import write_summary
    from pairuni.runs.state import check_settings

    if resume:
        check_settings(run, settings)
    prepared = prepare_run(settings)
    # raises for a folder that was evaluated on other items, before the weights are loaded
    evaluate = evaluation_in_training(settings, prepared.held_out, prepared.rewards, run.root)
    chosen = settings.policy
    trainer = Trainer(
        settings,
        load_model(chosen.model, device=chosen.device, dtype=chosen.dtype),
        prepared.pairs,
        prepared.rewards,
        run.root,
        evaluate=evaluate,
        images_digest=prepared.images_digest,
    )
    began = time.monotonic()
    # config.toml is written only when a resume is accepted: until then it describes the run that is there
    result = trainer.run(
        resume=resume, begun=lambda: write_text(run.config, describe_settings(run, settings))
    )
    if result.interrupted:
        raise Interrupted(
            f"stopped after step {result.steps} of {settings.pairgrpo.steps}; "
            f"the same command with --out {run.root} --resume continues"
        )
    summary = {
        "seed": settings.seed,
        "steps": result.steps,
        "seconds": round(time.monotonic() - began, 1),
        "pairs": str(settings.data.pairs.resolve()),
    }
    write_summary(run, summary)
    typer.echo(f"trained model: {run.final}")
    typer.echo(f"report: {write_report(run.root)}")


def _print_plan(settings: RunSettings) -> None:
    from pairuni.cli.plan import describe_cards, describe_plan, describe_reward_models
    from pairuni.pairgrpo.plan import plan_run, reward_model_bytes
    from pairuni.pairgrpo.preparation import prepare_run

    prepared = prepare_run(settings)
    policy = prepared.skeleton
    dtype = next(policy.module.parameters()).dtype
    typer.echo(to_toml(settings))
    typer.echo(f"{'pairs':<20}{len(prepared.pairs):,} ({settings.data.pairing})")
    if prepared.held_out:
        every = settings.evaluation.every
        when = "after every step" if every == 1 else f"every {every:,} steps"
        typer.echo(f"{'held-out pairs':<20}{len(prepared.held_out):,}, evaluated {when}")
    typer.echo(f"{'policy':<20}{policy.name}, {str(dtype).removeprefix('torch.')}")
    plan = plan_run(settings, policy, dtype)
    typer.echo(describe_plan(plan))
    models = reward_model_bytes(prepared.rewards)
    if rows := describe_reward_models(models):
        typer.echo(rows)
    typer.echo(describe_cards(plan, dtype, models.total()))
