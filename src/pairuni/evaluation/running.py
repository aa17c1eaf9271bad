"""The benchmarks that run a model, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pairuni.config import (
    DigitsEditsSettings,
    DigitsSettings,
    GenEvalSettings,
    ImgEditSettings,
    MMMUSettings,
    MMStarSettings,
    WISESettings,
    YesNoSettings,
)
from pairuni.config.evaluation import BenchmarkSettings
from pairuni.digits.evaluation import BATCH
from pairuni.distributed.shares import share_of
from pairuni.evaluation.benchmark import Benchmark, run_benchmark
from pairuni.evaluation.choices import mmmu_benchmark, mmstar_benchmark
from pairuni.evaluation.digits import digits_benchmark
from pairuni.evaluation.digits_edits import digits_edits_benchmark
from pairuni.evaluation.geneval import geneval_benchmark, geneval_detector
from pairuni.evaluation.imgedit import imgedit_benchmark, imgedit_judge
from pairuni.evaluation.model import Model
from pairuni.evaluation.result import Result
from pairuni.evaluation.wise import wise_benchmark, wise_judge
from pairuni.evaluation.yes_no import mme_benchmark, pope_benchmark
from pairuni.io.locks import folder_lock
from pairuni.policies.policy import UnifiedPolicy
from pairuni.runs.models import check_edits

EvalSettings = BenchmarkSettings | DigitsSettings


@dataclass(frozen=True)
class Task:
    """settings: their class. benchmark: called with the settings and the folder of the run. edits: needs a model that
    edits images."""

    settings: type[EvalSettings]
    benchmark: Callable[[Any, Path], Benchmark]
    edits: bool = False


BENCHMARKS: Mapping[str, Task] = {
    "digits": Task(DigitsSettings, digits_benchmark),
    "digits-edits": Task(DigitsEditsSettings, digits_edits_benchmark, edits=True),
    "pope": Task(YesNoSettings, lambda given, _: pope_benchmark(given)),
    "mme": Task(YesNoSettings, lambda given, _: mme_benchmark(given)),
    "mmstar": Task(MMStarSettings, lambda given, _: mmstar_benchmark(given)),
    "mmmu": Task(MMMUSettings, lambda given, _: mmmu_benchmark(given)),
    "geneval": Task(GenEvalSettings, lambda given, _: geneval_benchmark(given, geneval_detector(given))),
    "wise": Task(WISESettings, lambda given, _: wise_benchmark(given, wise_judge(given))),
    "imgedit": Task(
        ImgEditSettings, lambda given, _: imgedit_benchmark(given, imgedit_judge(given)), edits=True
    ),
}


def benchmark_of(
    name: str, settings: EvalSettings, out: Path, policy: UnifiedPolicy | None = None
) -> Benchmark:
    """The benchmark with its files read, before any weights. Raises CannotEdit for a model that cannot edit."""
    task = BENCHMARKS[name]
    if task.edits:
        check_edits(settings.model if policy is None else policy)
    return task.benchmark(settings, out)


def run_task(
    name: str, settings: EvalSettings, policy: UnifiedPolicy | None = None
) -> tuple[Benchmark, list[Result] | None]:
    """Run a benchmark and score it; the results are None in all processes but the first.

    policy: evaluated in place of ``settings.model``, which is then only a name. Without ``settings.out``, the run's
    folder is a temporary one. Raises CannotEdit for a model that cannot edit, and what ``run_benchmark`` raises.
    """
    share = share_of(os.environ)
    if settings.out is None and share.world_size > 1:
        raise ValueError("several processes share the run's folder: give --out")
    fixed = {"batch_size": BATCH} if isinstance(settings, DigitsSettings) else {}
    with ExitStack() as stack:
        out = settings.out or Path(stack.enter_context(TemporaryDirectory()))
        benchmark = benchmark_of(name, settings, out, policy)
        model = Model.of(settings, loaded=policy, **fixed)
        stack.enter_context(folder_lock(out, f"eval {benchmark.name}", rank=share.rank))
        return benchmark, run_benchmark(benchmark, model, out, share, settings=settings)
