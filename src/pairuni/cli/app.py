"""The commands and their options. Every command imports what it runs, so that --help stays fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pairuni import __version__
from pairuni.cli.errors import Commands
from pairuni.cli.evaluate import app as eval_app
from pairuni.cli.options import SETTINGS_AS_OPTIONS, SETTINGS_HEADING, settings_command
from pairuni.cli.pair_commands import app as pairs_app
from pairuni.cli.recipes import app as recipes_app
from pairuni.cli.settings_help import help_with
from pairuni.config import (
    AnswerSettings,
    DistributedSettings,
    DrawSettings,
    EditSettings,
    RunSettings,
    StudySettings,
)
from pairuni.console.terminal import make_visible, print_reply

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Post-train unified vision-language models on understanding-generation pairs.",
    epilog="Add --traceback anywhere, or set PAIRUNI_TRACEBACK=1, to see the traceback of an error.",
)
app.add_typer(pairs_app, name="pairs")
app.add_typer(eval_app, name="eval")
app.add_typer(recipes_app, name="recipes")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pairuni {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare the options of pairuni itself."""


@app.command()
def demo(
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
) -> None:
    """Run the full pipeline on real handwritten digits: data, pairs, training, report. Minutes on two cores.

    It trains by the recipe digits; to change settings, train by a copy of it: pairuni recipes copy digits.
    """
    from pairuni.cli.ranks import several_ranks
    from pairuni.demo import run_demo
    from pairuni.runs.folder import RunFolder

    with several_ranks(DistributedSettings().timeout) as (world, log):
        if log is not None:
            log.open(RunFolder(out).logs)
        page = run_demo(seed, out, world)
        if world.is_main:
            typer.echo(f"trained model: {RunFolder(out).final}")
            typer.echo(f"report: {page}")


@app.command(context_settings=SETTINGS_AS_OPTIONS, cls=help_with(RunSettings, SETTINGS_HEADING))
def train(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, or a name of `pairuni recipes`.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, parameters, memory and tokens; do not train.")
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="With --dry-run: memory and time on this many H100, A100 or RTX 4090."),
    ] = None,
) -> None:
    """Train with PairGRPO: train RECIPE [--section.key VALUE ...]

    Every setting is an option, such as --pairgrpo.learning-rate 2e-6 or --data.pairs=my/pairs.jsonl.
    """
    if str(recipe).startswith("-"):
        raise typer.BadParameter(f"give the recipe before {recipe}", param_hint="RECIPE")
    from pairuni.cli.training import train as run

    if gpus is not None and not dry_run:
        raise typer.BadParameter("plans a run: add --dry-run", param_hint="--gpus")
    run(recipe, ctx.args, out, resume=resume, dry_run=dry_run, gpus=gpus)


@app.command(
    context_settings=SETTINGS_AS_OPTIONS,
    cls=help_with(
        StudySettings, "Keys of a study. The options of its runs: pairuni train --help.", as_keys=True
    ),
)
def ablate(
    ctx: typer.Context,
    study: Annotated[Path, typer.Argument(help="A TOML study, or a name of `pairuni recipes`.")],
    out: Annotated[Path, typer.Option(help="Folder of runs, results and page.")] = Path("runs/ablations"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds; by default the study's.")] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>", help="Run only this row, and the default row; repeat it for more rows."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes at once; by default one per GPU, or one per core.")
    ] = None,
    benchmarks: Annotated[
        Path | None,
        typer.Option(help="A recipe of eval all: run the benchmarks that the study has figures for, too."),
    ] = None,
) -> None:
    """Run a study, a grid of settings and seeds, and compare its rows: ablate STUDY [--section.key VALUE ...]

    Every setting of training is an option and applies to all rows. Resumable: a finished run is not repeated.
    """
    if str(study).startswith("-"):
        raise typer.BadParameter(f"give the study before {study}", param_hint="STUDY")
    from pairuni.cli.ablation import ablate as run

    run(study, ctx.args, out=out, seeds=seeds, rows=row or [], jobs=jobs, suite=benchmarks)


@app.command(context_settings=SETTINGS_AS_OPTIONS)
def agreement(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, or a name; its policy.model is measured.")],
    out: Annotated[Path, typer.Option(help="Folder of batches and page.")] = Path("runs/agreement"),
    batches: Annotated[
        int, typer.Option(min=1, help="Batches of pairgrpo.pairs_per_batch pairs of each mix.")
    ] = 50,
    mixes: Annotated[
        str | None,
        typer.Option(
            help="Names separated by commas, of pairug, retrieved, low-similarity, understanding-only, "
            "generation-only and random; by default all."
        ),
    ] = None,
) -> None:
    """Measure the gradient agreement of data mixes, without training: agreement RECIPE [--section.key VALUE ...]

    Resumable: a finished batch is not repeated, and more batches or mixes can be added. Every setting of training is an
    option: pairuni train --help lists them.
    """
    if str(recipe).startswith("-"):
        raise typer.BadParameter(f"give the recipe before {recipe}", param_hint="RECIPE")
    from pairuni.cli.agreement import agreement as run

    run(recipe, ctx.args, out, batches=batches, mixes=mixes)


@app.command()
def compare(
    results: Annotated[
        list[Path],
        typer.Argument(help="JSON results of eval TASK, eval all or eval score, or their folders."),
    ],
    paper: Annotated[
        str | None,
        typer.Option(
            help="Compare with one row of the paper: PairUni-1B, or TABLE/ROW, such as 'pairing/random pairs'."
        ),
    ] = None,
) -> None:
    """Compare benchmark results with each other and with the paper's figures."""
    from pairuni.evaluation.comparison import compare as run
    from pairuni.evaluation.comparison import compare_with_row, find_results

    found = find_results(results)
    typer.echo(run(found) if paper is None else compare_with_row(found, paper))


@app.command(
    "serve-reward",
    context_settings=SETTINGS_AS_OPTIONS,
    cls=help_with(RunSettings, SETTINGS_HEADING, table="reward"),
)
def serve_reward(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A reward, as in reward.generation, such as hpsv2.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8100,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
    recipe: Annotated[Path | None, typer.Option(help="Read the reward settings from this recipe.")] = None,
    unguarded: Annotated[
        bool, typer.Option("--unguarded", help="Allow other machines without a token.")
    ] = False,
) -> None:
    """Serve a reward over HTTP to runs on other GPUs or machines, which use it as the reward remote.

    serve-reward NAME [--reward.hpsv2.checkpoint FILE ...]: every reward setting is an option. Set the same
    PAIRUNI_REWARD_TOKEN on the server and on the machines that train; without it, only this machine is served.
    Needs pip install 'pairuni[serve]'. Ctrl-C, SIGTERM and SIGHUP finish the requests in flight, then stop.
    """
    from pairuni.cli.serving import serve

    serve(name, ctx.args, recipe=recipe, host=host, port=port, unguarded=unguarded)


@app.command("app")
def web_app(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="tiny, a hub name, or the folder of a model, a run or a checkpoint; repeat it to compare models. By "
            "default the runs, or else tiny.",
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="<path>", help="A .jsonl or .parquet file of pairs to browse; repeat it for more."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="<path>", help="A run folder to watch, which need not exist yet; repeat it for more."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
) -> None:
    """Open a web page to draw, to ask about images, to compare models, to browse pairs and to watch runs.

    Models load when they are first used. Only this machine is served, unless --host says otherwise; PAIRUNI_APP_TOKEN
    must then hold a token, which browsers ask for as a password. Needs pip install 'pairuni[app]'. Ctrl-C stops.
    """
    from pairuni.cli.serving import serve_app

    serve_app(model or [], pairs or [], run or [], host=host, port=port, device=device, dtype=dtype)


@settings_command(app, DrawSettings, recipe=False, arguments=("prompt",), flags={"count": ("-n", "--count")})
def draw(settings: DrawSettings) -> None:
    """Generate images from a prompt."""
    from pairuni.cli.models import draw as run

    for path in run(settings):
        typer.echo(path)


@settings_command(app, EditSettings, recipe=False, arguments=("image", "instruction"))
def edit(settings: EditSettings) -> None:
    """Edit an image by an instruction."""
    from pairuni.cli.models import edit as run

    typer.echo(run(settings))


@settings_command(app, AnswerSettings, recipe=False, arguments=("image", "question"))
def answer(settings: AnswerSettings) -> None:
    """Answer a question about one or several images with greedy decoding."""
    from pairuni.cli.models import answer as run

    print_reply(run(settings))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A model folder or hub name.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    layout: Annotated[Literal["transformers", "original"], typer.Option(help="Layout to write.")],
) -> None:
    """Convert a checkpoint between the transformers layout and the original layout."""
    from pairuni.cli.models import convert as run

    typer.echo(run(source, target, layout))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run folder, one of its checkpoints, or RUN@best.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model; by default RUN/exported/step-N.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model that the run started from, if it has moved.")
    ] = None,
) -> None:
    """Export a checkpoint as a model folder: of RUN the newest, of RUN@best the one with the best held-out score."""
    from pairuni.cli.models import export as run

    typer.echo(run(source, out, base=base))


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="The folder of an adapter, or of a run that trained one.")],
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")],
    base: Annotated[
        str | None, typer.Option(help="The adapter's base model, if it is not where the adapter says.")
    ] = None,
) -> None:
    """Merge an adapter (LoRA) into its base model and write the result as a model folder."""
    from pairuni.cli.models import merge as run

    typer.echo(run(source, out, base=base))


@app.command()
def push(
    source: Annotated[Path, typer.Argument(help="A run folder, RUN@best, or one of its checkpoints.")],
    repo: Annotated[str, typer.Argument(help="Model on the hub, as OWNER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Create the model as private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to push to; created if it is missing.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write what would be uploaded to this folder, and upload nothing.")
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also push a run that has not ended.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Of a run that trained an adapter, push whole weights.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Hub name of the base model, if training read it from a folder.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Hub name of the pairs, as pushed by pairs push.")] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence identifier for the card, such as mit or apache-2.0.")
    ] = None,
    result: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="<path>", help="JSON result of eval TASK for the card; repeat it for more results."
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples/--no-samples", help="Include images and answers of the model.")
    ] = True,
) -> None:
    """Push the model of a run to the Hugging Face hub, with card, recipe and samples; log in with: hf auth login."""
    from pairuni.cli.models import push as run
    from pairuni.sharing.folder import Sharing

    sharing = Sharing(
        repo=repo,
        revision=revision,
        merge=merge,
        base=base,
        data=data,
        license=license,
        results=result or [],
        samples=samples,
    )
    typer.echo(run(source, sharing, out, private=private, unfinished=unfinished))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, at most 16.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page; by default report.html in the run's folder, or compare.html of several runs."
        ),
    ] = None,
) -> None:
    """Regenerate report.html of a run, or compare several runs on one page; both are self-contained.

    Differences of held-out scores are to the first run.
    """
    from pairuni.report import write_comparison, write_report

    page = (
        write_report(runs[0], out) if len(runs) == 1 else write_comparison(runs, out or Path("compare.html"))
    )
    typer.echo(f"report: {page}")


@app.command()
def env() -> None:
    """Print versions and devices, for bug reports."""
    from pairuni.cli.environment import describe

    for name, value in describe().items():
        typer.echo(f"{name:<14}{value}")


def main() -> None:
    """The console script. As with ``python -m``, custom modules are found in the working directory."""
    make_visible()
    sys.path.append(os.getcwd())
    app(prog_name="pairuni")
