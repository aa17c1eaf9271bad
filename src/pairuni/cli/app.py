"""The commands and their options. Every command imports what it runs, so that --help stays fast."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pairuni import __version__
from pairuni.cli.errors import Commands
from pairuni.cli.evaluate import app as eval_app
from pairuni.console.counts import counted
from pairuni.console.terminal import make_visible, print_reply

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Post-train unified vision-language models on understanding-generation pairs.",
    epilog="Add --traceback anywhere, or set PAIRUNI_TRACEBACK=1, to see the traceback of an error.",
)
pairs_app = typer.Typer(no_args_is_help=True, help="Build, check, inspect, convert and publish PairUG files.")
app.add_typer(pairs_app, name="pairs")
app.add_typer(eval_app, name="eval")

WITH_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}

Model = Annotated[
    str, typer.Option(help="tiny, a hub name, or the folder of a model, a run or a checkpoint.")
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        min=1.0, help="Classifier-free guidance; 1 turns it off. By default the checkpoint's value, else 5."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]


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
    """Declares the options of pairuni itself."""


@app.command()
def demo(
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
) -> None:
    """Run the full pipeline on real handwritten digits: data, pairs, training, report. Minutes on two cores."""
    from pairuni.demo import run_demo

    typer.echo(f"report: {run_demo(seed, out)}")


def _recipe_and_options(ctx: typer.Context) -> tuple[Path | None, list[str]]:
    """[RECIPE] and the options of a command whose options are settings."""
    words = list(ctx.args)
    if words and not words[0].startswith("-"):
        return Path(words[0]), words[1:]
    return None, words


@pairs_app.command("build", context_settings=WITH_OVERRIDES)
def pairs_build(
    ctx: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print settings, and requests, tokens and cost of completion; build nothing."
        ),
    ] = False,
) -> None:
    """Build pairs from raw data: pairs build [RECIPE] --understanding U.parquet --generation G.tar,MORE.jsonl --out DIR

    Every setting is an option: --encoder, --threshold, --max-matches, --clusters, --annotator, --seed,
    --completion.model. The same command resumes a stopped build. Exit code 3: paused at a budget or for a batch.
    """
    from pairuni.cli.pairs import build, plan

    recipe, words = _recipe_and_options(ctx)
    if dry_run:
        typer.echo(plan(recipe, words))
        return
    typer.echo(f"pairs: {build(recipe, words)}")


@pairs_app.command("encode", context_settings=WITH_OVERRIDES)
def pairs_encode(ctx: typer.Context) -> None:
    """Compute the image features of pairs build, with the same options, in one process or under torchrun.

    torchrun --nproc-per-node 8 -m pairuni pairs encode RECIPE: each process encodes its share on its own GPU, and
    pairs build reads the features from the cache. The same command resumes after a stop.
    """
    from pairuni.cli.pairs import encode

    recipe, words = _recipe_and_options(ctx)
    typer.echo(encode(recipe, words))


@pairs_app.command("split", context_settings=WITH_OVERRIDES)
def pairs_split(
    ctx: typer.Context,
    parts: Annotated[int, typer.Option(min=1, help="Maximum number of parts.")] = 16,
) -> None:
    """Split raw data that is too large for one build into parts of similar images, with the options of pairs build.

    OUT/parts/000, 001, ... hold the data, the features and a build.toml of each part; pairs join merges their pairs.
    """
    from pairuni.cli.pairs import split

    recipe, words = _recipe_and_options(ctx)
    typer.echo(split(recipe, words, parts))


@pairs_app.command("join")
def pairs_join(
    out: Annotated[Path, typer.Argument(help="The folder that pairs split wrote into.")],
) -> None:
    """Merge the pairs of all parts into OUT/pairs.jsonl; images stay where they are."""
    from pairuni.cli.pairs import join

    typer.echo(join(out))


@pairs_app.command("check")
def pairs_check(file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")]) -> None:
    """List every problem of a pair file and its images; exit code 1 if there is one."""
    from pairuni.cli.pairs import check

    problems = check(file)
    typer.echo(
        f"{file}: {counted(problems, 'problem')}" if problems else f"{file}: no problems", err=problems > 0
    )
    if problems:
        raise typer.Exit(1)


@pairs_app.command("stats")
def pairs_stats(file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")]) -> None:
    """Print statistics of a pair file as JSON: kinds, tags, images, similarities.

    Includes a comparison of the three matchings if the pairs were built with --compare-matchings true.
    """
    from pairuni.cli.pairs import stats

    typer.echo(json.dumps(stats(file), indent=2, ensure_ascii=False))


@pairs_app.command("gallery")
def pairs_gallery(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder, or PAGE.html for a single page that embeds the images; by default the folder "
            "gallery next to FILE."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="Maximum number of pairs shown, evenly spaced over the file.")
    ] = 20_000,
) -> None:
    """Make an HTML gallery of pairs: search, filter by kind, tag and similarity; works offline."""
    from pairuni.cli.pairs import gallery

    made = gallery(file, out, most=most)
    if made.missing:
        typer.echo(f"images not found: {made.missing:,}; pairs check names them", err=True)
    typer.echo(f"{made.shown:,} of {counted(made.total, 'pair')}: {made.page}")


@pairs_app.command("convert")
def pairs_convert(
    source: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")],
    target: Annotated[Path, typer.Argument(help="The file to write, .jsonl or .parquet.")],
    embed: Annotated[bool, typer.Option("--embed", help="Store the images inside the parquet file.")] = False,
) -> None:
    """Convert a pair file between JSON Lines and parquet, with images next to the file or inside it."""
    from pairuni.cli.pairs import convert as run

    typer.echo(f"{counted(run(source, target, embed=embed), 'pair')}: {target}")


@pairs_app.command("push")
def pairs_push(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")],
    repo: Annotated[str, typer.Argument(help="Data set on the hub, as OWNER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Create the data set as private.")] = False,
) -> None:
    """Push pairs with their images and card to the Hugging Face hub; log in first with: hf auth login."""
    from pairuni.cli.pairs import push

    typer.echo(push(file, repo, private=private))


@app.command(context_settings=WITH_OVERRIDES)
def train(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, such as recipes/janus_pro_1b.toml.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, parameters, memory and tokens; do not train.")
    ] = False,
) -> None:
    """Train with PairGRPO: train RECIPE [--section.key VALUE ...]

    Every setting is an option, such as --pairgrpo.learning-rate 2e-6 or --data.pairs=my/pairs.jsonl.
    """
    if str(recipe).startswith("-"):
        raise typer.BadParameter(f"give the recipe before {recipe}", param_hint="RECIPE")
    from pairuni.cli.training import train as run

    run(recipe, ctx.args, out, resume=resume, dry_run=dry_run)


@app.command()
def compare(
    results: Annotated[list[Path], typer.Argument(help="JSON results of eval TASK or eval score.")],
) -> None:
    """Compare benchmark results with each other and with the paper's figures."""
    from pairuni.cli.evaluation import compare as run

    typer.echo(run(results))


@app.command("serve-reward", context_settings=WITH_OVERRIDES)
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


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="Prompt.")],
    out: Annotated[Path, typer.Option(help="Image file; several images are named NAME-1, NAME-2, ...")],
    model: Model = "tiny",
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of images.")] = 1,
    seed: Seed = 0,
    guidance: Guidance = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")] = 1.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Generate images from a prompt."""
    from pairuni.cli.models import draw as run

    for path in run(
        model,
        prompt,
        out,
        count=count,
        seed=seed,
        guidance=guidance,
        temperature=temperature,
        device=device,
        dtype=dtype,
    ):
        typer.echo(path)


@app.command()
def answer(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    question: Annotated[str, typer.Argument(help="Question about the image.")],
    model: Model = "tiny",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum tokens of the answer; by default 512, or what fits.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Answer a question about an image with greedy decoding."""
    from pairuni.cli.models import answer as run

    print_reply(run(model, image, question, max_new_tokens=max_new_tokens, device=device, dtype=dtype))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A model folder or hub name.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    layout: Annotated[Literal["transformers", "original"], typer.Option(help="Layout to write.")],
) -> None:
    """Convert a Janus checkpoint between the transformers layout and the original layout."""
    from pairuni.cli.models import convert as run

    typer.echo(run(source, target, layout))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run folder, or one of its checkpoints.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model; by default RUN/exported/step-N.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The model that the run started from, if it has moved.")
    ] = None,
) -> None:
    """Export a checkpoint as a model folder, by default the newest of a run; works during training."""
    from pairuni.cli.models import export as run

    typer.echo(run(source, out, base=base))


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Rewrite the report.html of a run, one self-contained page."""
    from pairuni.report import write_report

    typer.echo(f"report: {write_report(run)}")


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
