"""A study from its file to its results and its page."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pairuni import __version__
from pairuni.config import StudySettings, find_recipe, load_settings, to_toml
from pairuni.console.counts import counted
from pairuni.console.progress import Progress
from pairuni.io.files import write_text
from pairuni.io.locks import folder_lock
from pairuni.pairug.dataset.store import PAIRS
from pairuni.records import TASKS
from pairuni.runs.folder import RunFolder
from pairuni.runs.reading import read_json
from pairuni.studies.benchmarks import benchmark_part, check_suite
from pairuni.studies.cells import Cell, DataPlan, cells_of
from pairuni.studies.page import write_page
from pairuni.studies.results import (
    RESULTS,
    RUNS,
    Result,
    append_result,
    read_results,
    result_of,
    scores_from,
)
from pairuni.studies.scheduler import Part, Scheduler, machine, python, slots
from pairuni.studies.work import OUTCOME, SETTINGS, WORLD, evaluation_file

logger = logging.getLogger("pairuni")

_WORK = "pairuni.studies.work"


@dataclass(frozen=True)
class Study:
    """A study's settings and cells. name: of its file; out: where its runs, pairs, results and page are kept."""

    name: str
    settings: StudySettings
    cells: Sequence[Cell]
    out: Path

    @classmethod
    def load(
        cls,
        path: Path,
        out: Path,
        *,
        overrides: Sequence[str] = (),
        seeds: int | None = None,
        rows: Sequence[str] = (),
    ) -> Study:
        """The study of a file, or the shipped one of this name.

        rows: only these and the default row; seeds: instead of the file's number.
        Raises ValueError for settings that are wrong and for a row that the study does not have.
        """
        path = find_recipe(path)
        settings = load_settings(StudySettings, path)
        if unknown := set(rows) - {row.name for row in settings.rows}:
            names = ", ".join(row.name for row in settings.rows)
            raise ValueError(f"{path} has no row {min(unknown)!r}; its rows are {names}")
        if rows:
            kept = [row for row in settings.rows if row.name in rows or row.name == settings.default]
            settings = settings.model_copy(update={"rows": kept})
        cells = cells_of(settings, path.parent, out, overrides, seeds)
        return cls(path.stem, settings, cells, out)

    @property
    def results_file(self) -> Path:
        return self.out / RESULTS


def run_study(study: Study, *, jobs: int | None = None, command: str = "", suite: Path | None = None) -> Path:
    """Run all cells that have no result yet and write the page; returns its path.

    jobs: processes at once; by default one per GPU, or one per core. command: kept with each result. suite: a recipe
    of ``eval all``; the benchmarks that the study has figures for run on the models of all cells. A study that was
    stopped resumes: finished runs are not repeated, others continue from their checkpoints. Raises PartFailed after
    all other parts have ended, and ValueError when another process is at work in ``study.out``.
    """
    options = None if suite is None else check_suite(suite, study.settings)
    with folder_lock(study.out, "ablate"):
        _run(study, jobs, command)
        if options is not None:
            _run_benchmarks(study, jobs, options)
        return write_page(
            study.name, study.settings, study.cells, read_results(study.results_file), study.out
        )


def _run(study: Study, jobs: int | None, command: str) -> None:
    results = read_results(study.results_file)
    missing = {cell.key: cell for cell in study.cells if result_of(cell, results) is None}
    for cell in list(missing.values()):
        if _outcome(study, cell).exists():  # finished when an earlier study was killed
            _keep(study, cell, command)
            del missing[cell.key]
    if not missing:
        logger.info("all %s of %s are finished", counted(len(study.cells), "run"), study.name)
        return
    logger.info("%s: %d of %s to run", study.name, len(missing), counted(len(study.cells), "run"))
    by_folder = {_run_folder(study, cell): cell for cell in missing.values()}
    gpus, cores = machine()
    left = len(missing)
    began = time.monotonic()
    progress = Progress(study.name, total=sum(_steps(cell) for cell in missing.values()))

    def end(part: Part) -> None:
        nonlocal left
        if (cell := by_folder.get(part.folder)) is None:
            return
        result = _keep(study, cell, command)
        left -= 1
        seconds = (time.monotonic() - began) * left / (len(missing) - left)
        scores = ", ".join(
            f"{task} {result.after.task(task).score:.3f} ({result.gain(task):+.3f})" for task in TASKS
        )
        done = len(study.cells) - left
        logger.info(
            "%s, seed %d: %s; %d of %d runs, %.0f min left",
            *(cell.row.name, cell.seed, scores, done, len(study.cells), seconds / 60),
        )

    def count(parts: Sequence[Part]) -> None:
        steps = sum(_steps_done(_run_folder(study, cell), cell) for cell in missing.values())
        if steps > progress.done:
            progress.advance(steps - progress.done)

    with progress:
        Scheduler(slots(jobs, gpus=gpus, cores=cores), end, count).run(_parts(study, list(missing.values())))


def _run_benchmarks(study: Study, jobs: int | None, suite: Sequence[str]) -> None:
    parts = {
        cell.key: benchmark_part(f"{cell.row.name!r}, seed {cell.seed}", _run_folder(study, cell), suite)
        for cell in study.cells
    }
    missing = [part for part in parts.values() if not part.done.exists()]
    if not missing:
        return
    logger.info("%s: benchmarks of %s", study.name, counted(len(missing), "run"))
    gpus, cores = machine()
    end = partial(logger.info, "finished: %s")
    Scheduler(slots(jobs, gpus=gpus, cores=cores), lambda part: end(part.name)).run(missing)


def _parts(study: Study, cells: Sequence[Cell]) -> list[Part]:
    """Pairs, scores before training, and runs, in an order in which the first results come early."""
    parts: dict[Path, Part] = {}
    for cell in cells:
        pairs = cell.settings.data.pairs
        if cell.data is not None:
            part = _data_part(study.out / "data" / cell.data.key, cell.data)
            parts.setdefault(part.folder, part)
        base = study.out / "base" / cell.base_key
        run = _run_folder(study, cell)
        scores = evaluation_file(base, 0)
        for kind, folder, done, needs in (
            ("base", base, scores, [pairs]),
            ("run", run, run / OUTCOME, [pairs, scores]),
        ):
            if folder in parts:
                continue
            write_text(folder / SETTINGS, to_toml(cell.settings))
            name = f"{cell.row.name!r}, seed {cell.seed}" + (", before training" if kind == "base" else "")
            parts[folder] = Part(name, folder, [python(_WORK, kind, str(folder))], done, needs)
    return list(parts.values())


def _data_part(folder: Path, data: DataPlan) -> Part:
    build = data.build.model_copy(update={"out": folder})
    commands = [python("pairuni", "pairs", "build", str(folder / "build.toml"))]
    if data.world is not None:
        world = {"world": data.world, "seed": build.seed, "samples": data.samples}
        write_text(folder / WORLD, json.dumps(world) + "\n")
        raw: dict[str, Any] = {task: [str(folder / "world" / task / "data.jsonl")] for task in TASKS}
        build = build.model_copy(update=raw)
        commands.insert(0, python(_WORK, "world", str(folder)))
    write_text(folder / "build.toml", to_toml(build))
    return Part(f"the pairs of seed {build.seed}", folder, commands, folder / PAIRS)


def _keep(study: Study, cell: Cell, command: str) -> Result:
    """Write down the result of a run that has ended."""
    base = evaluation_file(study.out / "base" / cell.base_key, 0)
    folder = _run_folder(study, cell)
    outcome = read_json(_outcome(study, cell))
    after = evaluation_file(folder, outcome["steps"])
    result = Result(
        key=cell.key,
        seed=cell.seed,
        study=study.name,
        row=cell.row.name,
        command=command,
        version=__version__,
        commit=_commit(),
        finished=time.strftime("%Y-%m-%d"),
        before=scores_from(read_json(base), str(base)),
        after=scores_from(read_json(after), str(after)),
        settings=_portable(cell, study.out),
        build=None if cell.data is None else cell.data.build.model_dump(mode="json"),
        **outcome,
    )
    append_result(study.results_file, result)
    return result


def _portable(cell: Cell, out: Path) -> dict[str, Any]:
    """The settings of a run, with the path of pairs built for it relative to ``out``."""
    settings = cell.settings.model_dump(mode="json")
    if cell.data is not None:
        settings["data"]["pairs"] = cell.settings.data.pairs.relative_to(out).as_posix()
    return settings


def _run_folder(study: Study, cell: Cell) -> Path:
    return study.out / RUNS / cell.key


def _outcome(study: Study, cell: Cell) -> Path:
    return _run_folder(study, cell) / OUTCOME


def _steps(cell: Cell) -> int:
    return cell.settings.pairgrpo.steps


def _steps_done(folder: Path, cell: Cell) -> int:
    metrics = RunFolder(folder).metrics
    return min(metrics.read_bytes().count(b"\n"), _steps(cell)) if metrics.exists() else 0


def _commit() -> str:
    """The commit of the source, with a + if files have changed; empty for an installed package."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain", "--", ".") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
