"""pairuni train."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer

from pairuni.api.training import check_first, train_in
from pairuni.cli.errors import INTERRUPTED, Interrupted
from pairuni.cli.ranks import said_once, several_ranks
from pairuni.config import RunSettings, load_settings, to_toml
from pairuni.distributed.shares import refuse_several
from pairuni.runs.best import BEST, better_checkpoint
from pairuni.runs.folder import RunFolder


def train(
    recipe: Path,
    overrides: Sequence[str],
    out: Path | None,
    *,
    resume: bool,
    dry_run: bool,
    gpus: int | None = None,
) -> None:
    """Train by ``recipe`` into ``out`` (default: runs/<name of the recipe>), or print the plan of such a run.

    gpus: number of devices that the plan is for; by default this one.
    Raises Interrupted if Ctrl-C ended the run; its work is saved.
    """
    with said_once():
        settings = load_settings(RunSettings, recipe, overrides)
        if dry_run:
            refuse_several(os.environ, "train --dry-run")
        check_first(settings)
    if dry_run:
        _print_plan(settings, gpus)
        return
    run = RunFolder(out or Path("runs") / recipe.stem)
    with several_ranks(settings.distributed.timeout) as (world, log):
        begun = None if log is None else partial(log.open, run.logs)
        result = train_in(settings, run, world, resume=resume, begun=begun)
        if world.is_main and not result.interrupted:
            typer.echo(f"trained model: {result.model}")
            typer.echo(f"report: {result.report}")
            if result.scores and (better := better_checkpoint(run.root, result.steps)) is not None:
                typer.echo(
                    f"best held-out score: {better.score:.3f} at step {better.step}; its model is {run.root}{BEST}"
                )
    if result.interrupted:
        if not world.is_main:
            raise typer.Exit(INTERRUPTED)
        raise Interrupted(
            f"stopped after step {result.steps} of {result.planned}; "
            f"the same command with --out {run.root} --resume continues"
        )


def _print_plan(settings: RunSettings, gpus: int | None) -> None:
    from pairuni.cli.plan import (
        describe_cards,
        describe_gpus,
        describe_plan,
        describe_reward_models,
        describe_steps,
    )
    from pairuni.pairgrpo.plan import plan_run, reward_model_bytes
    from pairuni.pairgrpo.preparation import prepare_run

    prepared = prepare_run(settings)
    policy = prepared.skeleton
    dtype = next(policy.module.parameters()).dtype
    typer.echo(to_toml(settings))
    typer.echo(f"{'pairs':<20}{len(prepared.pairs):,} ({settings.data.pairing})")
    typer.echo(f"{'steps':<20}{describe_steps(settings, len(prepared.pairs))}")
    if prepared.most_images > 1:
        typer.echo(f"{'images a question':<20}at most {prepared.most_images}")
    if prepared.held_out:
        every = settings.evaluation.every
        when = "after every step" if every == 1 else f"every {every:,} steps"
        typer.echo(f"{'held-out pairs':<20}{len(prepared.held_out):,}, evaluated {when}")
    typer.echo(f"{'policy':<20}{policy.name}, {str(dtype).removeprefix('torch.')}")
    models = reward_model_bytes(prepared.rewards)
    if gpus is not None:
        typer.echo(describe_gpus(settings, policy, gpus, models.total(), images=prepared.most_images))
        return
    plan = plan_run(settings, policy, dtype, images=prepared.most_images)
    typer.echo(describe_plan(settings, plan, dtype))
    if rows := describe_reward_models(models):
        typer.echo(rows)
    typer.echo(describe_cards(plan, dtype, models.total()))
