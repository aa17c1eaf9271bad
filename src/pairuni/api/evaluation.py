"""Benchmarks of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairuni.config import load_settings

if TYPE_CHECKING:
    from pairuni.evaluation.result import Result
    from pairuni.policies.policy import UnifiedPolicy


def evaluate(
    model: str | Path | UnifiedPolicy, task: str, *, out: str | Path | None = None, **settings: Any
) -> list[Result]:
    """Score a model on a benchmark, as ``pairuni eval TASK`` does.

    Some benchmarks have several results: "digits" has one for each of the two tasks. The same call resumes a stopped
    run in ``out``.

    model: a loaded policy, "tiny", a hub name, or the folder of a model, a run or a checkpoint. task: digits,
    digits-edits, pope, mme, mmstar, mmmu, geneval, wise or imgedit. out: folder for replies, images and results; only
    the digits benchmarks do without. settings: the other settings of the task, such as ``data``, ``limit`` or ``seed``.

    Returns no results for images that nothing judges, such as those of geneval without ``detector``, and in all
    processes but the first if torchrun started several. Raises ValueError for unknown tasks and settings and for a
    folder that holds another run, and FileNotFoundError for missing files.
    """
    from pairuni.evaluation.running import BENCHMARKS, run_task
    from pairuni.policies.policy import UnifiedPolicy

    if task not in BENCHMARKS:
        raise ValueError(f"no benchmark is called {task!r}; known: {', '.join(BENCHMARKS)}")
    policy = model if isinstance(model, UnifiedPolicy) else None
    given: dict[str, Any] = {"model": str(model) if policy is None else policy.name, **settings}
    if out is not None:
        given["out"] = Path(out)
    return run_task(task, load_settings(BENCHMARKS[task].settings, None, given), policy)[1] or []
