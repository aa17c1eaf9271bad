"""`pairuni eval`: run a model on a benchmark and score it, or score official files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from pairuni.cli.errors import Interrupted
from pairuni.cli.options import settings_command
from pairuni.config import (
    DigitsEditsSettings,
    DigitsSettings,
    GenEvalJudgingSettings,
    GenEvalSettings,
    ImgEditSettings,
    MMMUSettings,
    MMStarSettings,
    ScoreSettings,
    WISESettings,
    YesNoSettings,
)
from pairuni.distributed.shares import Share, share_of
from pairuni.io.locks import folder_lock, target_lock

if TYPE_CHECKING:
    from pairuni.evaluation.running import EvalSettings

app = typer.Typer(no_args_is_help=True, help="Score a checkpoint.")


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


def _done(share: Share) -> str:
    return f"process {share.rank + 1} of {share.world_size}: done"
