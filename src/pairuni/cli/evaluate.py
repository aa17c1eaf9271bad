"""`pairuni eval`: run a model on a benchmark and score it, or score official files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pairuni.cli.errors import Group, Interrupted
from pairuni.cli.options import SETTINGS_AS_OPTIONS, SETTINGS_HEADING, settings_command
from pairuni.cli.settings_help import help_with
from pairuni.config import (
    DigitsEditsSettings,
    DigitsSettings,
    GenEvalJudgingSettings,
    GenEvalSettings,
    ImgEditSettings,
    MMMUSettings,
    MMStarSettings,
    ScoreSettings,
    SuiteSettings,
    WISESettings,
    YesNoSettings,
    load_settings,
)
from pairuni.console.counts import counted
from pairuni.distributed.shares import Share, share_of
from pairuni.io.locks import folder_lock, target_lock

if TYPE_CHECKING:
    from pairuni.evaluation.running import EvalSettings

app = typer.Typer(cls=Group, no_args_is_help=True, help="Score a checkpoint.")


@settings_command(app, DigitsSettings)
def digits(settings: DigitsSettings) -> None:
    """Score both tasks on held-out scenes of handwritten digits."""
    _run("digits", settings)


@settings_command(app, DigitsEditsSettings)
def digits_edits(settings: DigitsEditsSettings) -> None:
    """Score image editing on held-out scenes of handwritten digits."""
    _run("digits-edits", settings)


@settings_command(app, YesNoSettings)
def pope(settings: YesNoSettings) -> None:
    """POPE: questions on objects in COCO images, three splits."""
    _run("pope", settings)


@settings_command(app, YesNoSettings)
def mme(settings: YesNoSettings) -> None:
    """MME: yes/no questions of 10 or 14 categories; --limit counts images."""
    _run("mme", settings)


@settings_command(app, MMStarSettings)
def mmstar(settings: MMStarSettings) -> None:
    """MMStar: multiple choice in six categories."""
    _run("mmstar", settings)


@settings_command(app, MMMUSettings)
def mmmu(settings: MMMUSettings) -> None:
    """MMMU validation: multiple choice and open questions of 30 subjects."""
    _run("mmmu", settings)


@settings_command(app, GenEvalSettings)
def geneval(settings: GenEvalSettings) -> None:
    """GenEval: 4 images of each of 553 prompts, in the official folders; a detector judges them."""
    _run("geneval", settings)


@settings_command(app, WISESettings)
def wise(settings: WISESettings) -> None:
    """WISE: an image of each of 1000 prompts, scored by a judge; its key is read from OPENAI_API_KEY."""
    _run("wise", settings)


@settings_command(app, GenEvalJudgingSettings, recipe=False, arguments=("task", "images"))
def judge(settings: GenEvalJudgingSettings) -> None:
    """Judge images by a detector and the official rules; writes the official results file and the score."""
    from pairuni.evaluation.protocols.geneval_judging import judge_and_score

    share = share_of(os.environ)
    with target_lock(settings.out, "eval judge", rank=share.rank):
        typer.echo(judge_and_score(settings, share) or _done(share))


@settings_command(app, ImgEditSettings)
def imgedit(settings: ImgEditSettings) -> None:
    """ImgEdit-Bench Basic: 737 edited images, scored by a judge; its key is read from OPENAI_API_KEY."""
    _run("imgedit", settings)


@app.command(
    "all", context_settings=SETTINGS_AS_OPTIONS, cls=help_with(SuiteSettings, SETTINGS_HEADING, tables=False)
)
def suite(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="TOML file with a section for each benchmark.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the files and print what would run; run nothing.")
    ] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="With --dry-run: time on this many H100, A100 or RTX 4090.")
    ] = None,
) -> None:
    """Run several benchmarks of one model, then compare it with the paper: eval all RECIPE --model M --out DIR

    The files of all benchmarks are read before the first one runs. Every setting is an option: --tasks mmmu,mmstar,
    --limit 100, --wise.judge gpt-4o. The same command resumes.
    """
    if gpus is not None and not dry_run:
        raise typer.BadParameter("plans a run: add --dry-run", param_hint="--gpus")
    settings = load_settings(SuiteSettings, recipe, ctx.args)
    if dry_run:
        _plan_all(settings, gpus)
    else:
        _run_all(settings)


@settings_command(app, ScoreSettings, recipe=False, arguments=("task", "paths"))
def score(settings: ScoreSettings) -> None:
    """Score the official files of a public benchmark by its official rules."""
    from pairuni.evaluation.tasks import score_files

    results = score_files(settings)
    for result in results:
        typer.echo(result.table())
    if settings.out is not None:
        with folder_lock(settings.out, "eval score"):
            for result in results:
                path = settings.out / f"{result.slug}.json"
                result.write(path)
                typer.echo(f"result: {path}")


def _run(task: str, settings: EvalSettings) -> None:
    """Run the benchmark and print its tables, or what to do next."""
    from pairuni.evaluation.running import run_task

    try:
        benchmark, results = run_task(task, settings)
    except KeyboardInterrupt:
        if settings.out is None:
            raise
        raise Interrupted(
            f"stopped; finished items are in {settings.out}, the same command resumes"
        ) from None
    if results is None:
        typer.echo(_done(share_of(os.environ)))
    elif not results:
        typer.echo(benchmark.unscored)
    else:
        for result in results:
            typer.echo(result.table())
        if settings.out is not None:
            typer.echo(f"results: {settings.out}")


def _run_all(settings: SuiteSettings) -> None:
    """Run a suite and print its tables, what is left to judge, and the comparison."""
    from pairuni.evaluation.comparison import compare
    from pairuni.evaluation.suite import read_suite, run_suite, unscored

    share = share_of(os.environ)
    parts = read_suite(settings)
    try:
        results = run_suite(parts, settings.out)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; finished items are in {settings.out}, the same command resumes"
        ) from None
    if share.rank > 0:
        typer.echo(_done(share))
        return
    scored = [result for found in results.values() for result in found]
    for result in scored:
        typer.echo(result.table())
    for sentence in unscored(parts, results):
        typer.echo(sentence)
    if scored:
        typer.echo(compare({settings.out / result.slug: result for result in scored}))
    typer.echo(f"results: {settings.out}")


def _plan_all(settings: SuiteSettings, gpus: int | None) -> None:
    """Print what a suite would run, and how long decoding takes."""
    from pairuni.evaluation.suite import Part, read_suite, suite_seconds
    from pairuni.pairgrpo.cards import BANDWIDTH, NODES
    from pairuni.runs.models import load_model

    def row(name: str, cells: Sequence[str]) -> None:
        typer.echo(f"{name:<20}{'  '.join(cells)}")

    def items(part: Part) -> str:
        benchmark = part.benchmark
        shown = [counted(len(benchmark.questions), "question")] if benchmark.questions else []
        shown += [counted(part.images, "image")] if part.images else []
        return ", ".join(shown) + (f" ({benchmark.subset})" if benchmark.subset else "")

    parts = read_suite(settings)
    policy = load_model(settings.model, device="cpu", weights=False)
    row("model", [policy.name])
    for name, part in parts.items():
        row(name, [items(part)])
    if gpus is None:
        return
    for card in NODES:
        seconds = suite_seconds(parts, policy, card, gpus)
        total = sum(seconds.values()) / 3600
        named = ", ".join(f"{name} {value / 60:.1f}" for name, value in seconds.items())
        row(f"{gpus} x {card.name}", [f"at most {total:.2f} hours of decoding; minutes: {named}"])
    row(
        "estimate",
        [f"bfloat16, every reply with all its tokens, at {BANDWIDTH:.0%} of the bandwidth; without prompts,"],
    )
    row("", ["judges and detectors. Nothing was measured on these GPUs."])


def _done(share: Share) -> str:
    return f"process {share.rank + 1} of {share.world_size}: done"
