"""pairuni train."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pairuni.cli.errors import INTERRUPTED, Interrupted
from pairuni.cli.ranks import RankLog, said_once, several_ranks
from pairuni.config import RunSettings, load_settings, to_toml
from pairuni.distributed.shares import refuse_several
from pairuni.io.files import write_text
from pairuni.io.locks import folder_lock
from pairuni.runs.folder import RunFolder

if TYPE_CHECKING:
    from pairuni.distributed.world import World
    from pairuni.pairgrpo.trainer import RunResult


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
        if not settings.data.pairs.is_file():
            raise FileNotFoundError(
                f"{settings.data.pairs}: no such pair file; `pairuni pairs build` makes one"
            )
    if dry_run:
        _print_plan(settings, gpus)
        return
    run = RunFolder(out or Path("runs") / recipe.stem)
    with (
        several_ranks(settings.distributed.timeout) as (world, log),
        folder_lock(run.root, "train") if world.is_main else nullcontext(),
    ):
        resume = world.on_main(lambda: _resumes(run, resume))
        result = _train(settings, run, world, log, resume=resume)
    if result.interrupted:
        if not world.is_main:
            raise typer.Exit(INTERRUPTED)
        raise Interrupted(
            f"stopped after step {result.steps} of {result.planned}; "
            f"the same command with --out {run.root} --resume continues"
        )


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
    settings: RunSettings, run: RunFolder, world: World, log: RankLog | None, *, resume: bool
) -> RunResult:
    from pairuni.evaluation.in_training import evaluation_in_training
    from pairuni.pairgrpo.preparation import prepare_run, strategy_for
    from pairuni.pairgrpo.trainer import Trainer
    from pairuni.report import write_report
    from pairuni.runs.history import describe_settings
    from pairuni.runs.models import load_for_run
    from pairuni.runs.run import write_summary
    from pairuni.runs.state import check_settings

    if resume:
        check_settings(run, settings)
    prepared = prepare_run(settings, world)
    # raises for a folder that was evaluated on other items, before the weights are loaded
    evaluate = evaluation_in_training(settings, prepared.held_out, prepared.rewards, run.root, world)
    policy = load_for_run(settings.policy)
    trainer = Trainer(
        settings,
        policy,
        prepared.pairs,
        prepared.rewards,
        run.root,
        evaluate=evaluate,
        images_digest=prepared.images_digest,
        strategy=strategy_for(settings, policy, world, prepared.rewards),
    )
    began = time.monotonic()

    def begin() -> None:
        if log is not None:
            log.open(run.logs)
        # config.toml is written only when a resume is accepted: until then it describes the run that is there
        if world.is_main:
            write_text(run.config, describe_settings(run, settings))

    result = trainer.run(resume=resume, begun=begin)
    if world.is_main and not result.interrupted:
        summary = {
            "seed": settings.seed,
            "steps": result.steps,
            "seconds": round(time.monotonic() - began, 1),
            "pairs": str(settings.data.pairs.resolve()),
        }
        write_summary(run, summary)
        typer.echo(f"trained model: {run.final}")
        typer.echo(f"report: {write_report(run.root)}")
    return result


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
    if prepared.held_out:
        every = settings.evaluation.every
        when = "after every step" if every == 1 else f"every {every:,} steps"
        typer.echo(f"{'held-out pairs':<20}{len(prepared.held_out):,}, evaluated {when}")
    typer.echo(f"{'policy':<20}{policy.name}, {str(dtype).removeprefix('torch.')}")
    models = reward_model_bytes(prepared.rewards)
    if gpus is not None:
        typer.echo(describe_gpus(settings, policy, gpus, models.total()))
        return
    plan = plan_run(settings, policy, dtype)
    typer.echo(describe_plan(plan))
    if rows := describe_reward_models(models):
        typer.echo(rows)
    typer.echo(describe_cards(plan, dtype, models.total()))
