"""The commands of ``python -m benchmarks``: speed and memory, compared with other implementations."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchmarks.settings import (
    AgreementBenchSettings,
    CandidateSettings,
    CheckpointBenchSettings,
    DiffusionBenchSettings,
    ProcessesBenchSettings,
    RewardBenchSettings,
    RolloutBenchSettings,
    SelectionSettings,
    StepBenchSettings,
    UpdateBenchSettings,
    WorkloadSettings,
)
from pairuni.cli.errors import Commands
from pairuni.cli.options import settings_command
from pairuni.console.terminal import make_visible

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measure speed and memory, compared with other implementations.",
)

COMMAND = ("python", "-m", "benchmarks")
"""How a user starts a benchmark; the first words of the command in a result."""

WIDTH = 140
"""Columns of a table that is not shown on a terminal."""

AsJson = Annotated[bool, typer.Option("--json", help="Print the JSON object alone.")]


@settings_command(app, RolloutBenchSettings, recipe=False)
def rollout(settings: RolloutBenchSettings, as_json: AsJson = False) -> None:
    """Images per second: the peers' loop, transformers, ours, and ours with the answers of the same pairs."""
    _compare_workload("rollout", settings, as_json)


@settings_command(app, UpdateBenchSettings, recipe=False)
def update(settings: UpdateBenchSettings, as_json: AsJson = False) -> None:
    """Tokens per second and memory of forward and backward: the peers' two passes, and ours."""
    _compare_workload("update", settings, as_json)


@settings_command(app, StepBenchSettings, recipe=False)
def step(settings: StepBenchSettings, as_json: AsJson = False) -> None:
    """A complete PairGRPO step with stub rewards: time of its parts and peak memory."""
    _compare_workload("step", settings, as_json)


@settings_command(app, CheckpointBenchSettings, recipe=False)
def checkpoint(settings: CheckpointBenchSettings, as_json: AsJson = False) -> None:
    """What checkpoints add to the time of training: written by a thread, or while training waits."""
    _compare_workload("checkpoint", settings, as_json)


@settings_command(app, ProcessesBenchSettings, recipe=False)
def processes(settings: ProcessesBenchSettings, as_json: AsJson = False) -> None:
    """Pairs per second of one process, and of two that train together, replicated or sharded, a core each."""
    from benchmarks.processes import measure

    _show("processes", settings.to_dict(), measure(settings), settings.device, as_json)


@settings_command(app, DiffusionBenchSettings, recipe=False)
def diffusion(settings: DiffusionBenchSettings, as_json: AsJson = False) -> None:
    """Images per second of Lumina-DiMOO: the original's loop, and ours; forward and backward of its replays."""
    from benchmarks.diffusion import measure
    from pairuni.devices import check_device, resolve_device, resolve_dtype

    device = check_device(resolve_device(settings.device))
    dtype = str(resolve_dtype(settings.dtype, device)).removeprefix("torch.")
    settings = settings.model_copy(update={"device": str(device), "dtype": dtype})
    _show("diffusion", settings.to_dict(), measure(settings), settings.device, as_json)


@settings_command(app, AgreementBenchSettings, recipe=False)
def agreement(settings: AgreementBenchSettings, as_json: AsJson = False) -> None:
    """Gradient agreement of training steps on the digits world: the estimate of a run beside the exact cosine."""
    from benchmarks.agreement import measure

    _show("agreement", settings.to_dict(), measure(settings), settings.device, as_json)


@settings_command(app, SelectionSettings, recipe=False)
def pairing(settings: SelectionSettings, as_json: AsJson = False) -> None:
    """Pair selection on clustered features: the paper's loop, best pairs first, and the optimal matching."""
    from benchmarks.pairing import measure

    settings.k  # noqa: B018 - refuses impossible sizes before a process is started
    _show("pairing", settings.to_dict(), measure(settings), "auto", as_json)


@settings_command(app, CandidateSettings, recipe=False)
def candidates(settings: CandidateSettings, as_json: AsJson = False) -> None:
    """Nearest-neighbour search on clustered features: exhaustive, faiss, and by clusters."""
    from benchmarks.candidates import measure

    _show("candidates", settings.to_dict(), measure(settings), "auto", as_json)


@settings_command(app, RewardBenchSettings, recipe=False)
def reward(settings: RewardBenchSettings, as_json: AsJson = False) -> None:
    """Images per second of a CLIP reward such as HPSv2: one at a time, prompts cached, and in a batch."""
    from benchmarks.reward import measure
    from pairuni.devices import check_device, resolve_device

    settings = settings.model_copy(update={"device": str(check_device(resolve_device(settings.device)))})
    _show("reward", settings.to_dict(), measure(settings), settings.device, as_json)


@app.command("all")
def all_cases(
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="The cases for a CPU or for a GPU.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
    only: Annotated[list[str] | None, typer.Option(help="Name of a case; repeatable.")] = None,
) -> None:
    """Run every case and write a file for each. Needs an otherwise idle machine."""
    from benchmarks.suite import chosen, run_all
    from pairuni.io.locks import folder_lock

    cases = chosen(device, only or [])
    with folder_lock(out, "bench all"):
        failed = run_all(cases, out)
    for line in failed:
        typer.echo(line, err=True)
    if failed:
        raise typer.Exit(1)
    typer.echo(f"results: {out}")


@app.command("table")
def table_command(
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("benchmarks/results"),
    page: Annotated[
        Path | None, typer.Option(help="Page to write the tables into; without it they are printed.")
    ] = None,
) -> None:
    """Show the results as Markdown tables, in which every row adds one thing to the row above."""
    from benchmarks.ladder import markdown, read_results, with_results
    from pairuni.io.files import write_text

    content = markdown(read_results(results))
    if page is None:
        typer.echo(content)
    else:
        write_text(page, with_results(page.read_text(encoding="utf-8"), content))
        typer.echo(page)


def _compare_workload(name: str, settings: WorkloadSettings, as_json: bool) -> None:
    from benchmarks.result import measure_workload
    from pairuni.devices import resolve_device, resolve_dtype

    device = resolve_device(settings.device)
    dtype = str(resolve_dtype(settings.dtype, device)).removeprefix("torch.")
    settings = settings.model_copy(update={"device": str(device), "dtype": dtype})
    _show(name, settings.to_dict(), measure_workload(name, settings), str(device), as_json)


def _show(name: str, settings: dict[str, Any], numbers: dict[str, Any], device: str, as_json: bool) -> None:
    """Print a table, unless only JSON is requested, then the result as one line of JSON."""
    from benchmarks.result import described, table
    from pairuni.cli.environment import describe
    from pairuni.console.rich_output import Console
    from pairuni.devices import resolve_device

    command = shlex.join([*COMMAND, *sys.argv[1:]])
    where = resolve_device(device)
    result = described(name, settings, numbers, device=where, command=command, versions=describe())
    if not as_json:
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
        console.print(table(result))
    typer.echo(json.dumps(result))


def main() -> None:
    make_visible()
    app(prog_name=" ".join(COMMAND))
