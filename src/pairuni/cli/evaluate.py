"""`pairuni eval`: run a model on a benchmark and score it, or score official files."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

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
from pairuni.config.evaluation import BenchmarkSettings
from pairuni.distributed.shares import Share, share_of
from pairuni.io.locks import folder_lock, target_lock

if TYPE_CHECKING:
    from pairuni.evaluation.benchmark import Benchmark

D = TypeVar("D", bound=DigitsSettings)

app = typer.Typer(no_args_is_help=True, help="Score a checkpoint.")


@settings_command(app, DigitsSettings)
def digits(settings: DigitsSettings) -> None:
    """Score both tasks on held-out scenes of handwritten digits."""
    from pairuni.evaluation.digits import digits_benchmark

    _run_digits(digits_benchmark, settings)


@settings_command(app, DigitsEditsSettings)
def digits_edits(settings: DigitsEditsSettings) -> None:
    """Score image editing on held-out scenes of handwritten digits."""
    from pairuni.evaluation.digits_edits import digits_edits_benchmark
    from pairuni.runs.models import check_edits

    check_edits(settings.model)
    _run_digits(digits_edits_benchmark, settings)


@settings_command(app, YesNoSettings)
def pope(settings: YesNoSettings) -> None:
    """POPE: questions on objects in COCO images, three splits."""
    from pairuni.evaluation.yes_no import pope_benchmark

    _run(pope_benchmark(settings), settings, settings.out)


@settings_command(app, YesNoSettings)
def mme(settings: YesNoSettings) -> None:
    """MME: yes/no questions of 10 or 14 categories; --limit counts images."""
    from pairuni.evaluation.yes_no import mme_benchmark

    _run(mme_benchmark(settings), settings, settings.out)


@settings_command(app, MMStarSettings)
def mmstar(settings: MMStarSettings) -> None:
    """MMStar: multiple choice in six categories."""
    from pairuni.evaluation.choices import mmstar_benchmark

    _run(mmstar_benchmark(settings), settings, settings.out)


@settings_command(app, MMMUSettings)
def mmmu(settings: MMMUSettings) -> None:
    """MMMU validation: multiple choice and open questions of 30 subjects."""
    from pairuni.evaluation.choices import mmmu_benchmark

    _run(mmmu_benchmark(settings), settings, settings.out)


@settings_command(app, GenEvalSettings)
def geneval(settings: GenEvalSettings) -> None:
    """GenEval: 4 images of each of 553 prompts, in the official folders; a detector judges them."""
    from pairuni.evaluation.geneval import geneval_benchmark, geneval_detector

    detector = geneval_detector(settings)
    _run(geneval_benchmark(settings, detector), settings, settings.out)


@settings_command(app, WISESettings)
def wise(settings: WISESettings) -> None:
    """WISE: an image of each of 1000 prompts, scored by a judge; its key is read from OPENAI_API_KEY."""
    from pairuni.evaluation.wise import wise_benchmark, wise_judge

    _run(wise_benchmark(settings, wise_judge(settings)), settings, settings.out)


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
    from pairuni.evaluation.imgedit import imgedit_benchmark, imgedit_judge
    from pairuni.runs.models import check_edits

    check_edits(settings.model)
    _run(imgedit_benchmark(settings, imgedit_judge(settings)), settings, settings.out)


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


def _run_digits(benchmark: Callable[[D, Path], Benchmark], settings: D) -> None:
    """Run a benchmark of the digits world, in a folder that is removed unless the user names one."""
    from pairuni.digits.evaluation import BATCH

    if settings.out is None and share_of(os.environ).world_size > 1:
        raise ValueError("several processes share the run's folder: give --out")
    with ExitStack() as stack:
        out = settings.out or Path(stack.enter_context(TemporaryDirectory()))
        _run(benchmark(settings, out), settings, out, named=settings.out is not None, batch_size=BATCH)


def _run(
    benchmark: Benchmark,
    settings: BenchmarkSettings | DigitsSettings,
    out: Path,
    *,
    named: bool = True,
    **fixed: Any,
) -> None:
    """Run the benchmark into ``out`` and print its tables, or what to do next. named: ``out`` is the user's."""
    from pairuni.evaluation.benchmark import run_benchmark
    from pairuni.evaluation.model import Model

    share = share_of(os.environ)
    model = Model.of(settings, **fixed)
    try:
        with folder_lock(out, f"eval {benchmark.name}", rank=share.rank):
            results = run_benchmark(benchmark, model, out, share, settings=settings)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; finished items are in {out}, the same command resumes") from None
    if results is None:
        typer.echo(_done(share))
    elif not results:
        typer.echo(benchmark.unscored)
    else:
        for result in results:
            typer.echo(result.table())
        if named:
            typer.echo(f"results: {out}")


def _done(share: Share) -> str:
    return f"process {share.rank + 1} of {share.world_size}: done"
