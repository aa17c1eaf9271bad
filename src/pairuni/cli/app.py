"""The commands. Nothing heavy is imported before a command needs it."""

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
    epilog="Add --traceback anywhere, or set PAIRUNI_TRACEBACK=1, to see where an error arose.",
)
pairs_app = typer.Typer(
    no_args_is_help=True, help="Build, check, count, show, convert and push PairUG files."
)
app.add_typer(pairs_app, name="pairs")
app.add_typer(eval_app, name="eval")

WITH_OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}

Model = Annotated[
    str, typer.Option(help="tiny, the folder of a model, a run or a checkpoint, or a hub name.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything drawn at random.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        min=1.0, help="Classifier-free guidance; 1 is none. By default the checkpoint's own, else 5."
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
    """Holds the options of pairuni itself."""


@app.command()
def demo(
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
) -> None:
    """The whole way on real handwritten digits: data, pairs, training, a report. Minutes on 2 cores."""
    from pairuni.demo import run_demo

    typer.echo(f"report: {run_demo(seed, out)}")


@pairs_app.command("build", context_settings=WITH_OVERRIDES)
def pairs_build(
    ctx: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print settings, calls, tokens and cost of completion; build nothing."
        ),
    ] = False,
) -> None:
    """Build PairUG: pairs build [RECIPE] --understanding U.parquet --generation G.tar,MORE.jsonl --out DIR ...

    Any setting may be overridden: --encoder, --threshold, --max-matches, --clusters, --annotator, --seed,
    --completion.model. Exit code 3: stopped at a budget or for a batch; the same command goes on.
    """
    from pairuni.cli.pairs import build, plan

    words = list(ctx.args)
    recipe = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    if dry_run:
        typer.echo(plan(recipe, words))
        return
    typer.echo(f"pairs: {build(recipe, words)}")


@pairs_app.command("encode", context_settings=WITH_OVERRIDES)
def pairs_encode(ctx: typer.Context) -> None:
    """Encode the images that pairs build will need, with its options; several processes share under torchrun.

    torchrun --nproc-per-node 8 -m pairuni pairs encode RECIPE: each process encodes its blocks on its own GPU, and
    pairs build finds all features done. The same command goes on after a stop.
    """
    from pairuni.cli.pairs import encode

    words = list(ctx.args)
    recipe = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    typer.echo(encode(recipe, words))


@pairs_app.command("split", context_settings=WITH_OVERRIDES)
def pairs_split(
    ctx: typer.Context,
    parts: Annotated[int, typer.Option(min=1, help="At most so many parts.")] = 16,
) -> None:
    """Cut raw data that is too large for one build into parts that look alike, with the options of pairs build.

    OUT/parts/000 and on hold their data, their features and a build.toml each; pairs join takes their pairs together.
    """
    from pairuni.cli.pairs import split

    words = list(ctx.args)
    recipe = Path(words.pop(0)) if words and not words[0].startswith("-") else None
    typer.echo(split(recipe, words, parts))


@pairs_app.command("join")
def pairs_join(
    out: Annotated[Path, typer.Argument(help="The folder that pairs split wrote into.")],
) -> None:
    """Write the pairs of all parts as OUT/pairs.jsonl; images stay where they are."""
    from pairuni.cli.pairs import join

    typer.echo(join(out))


@pairs_app.command("check")
def pairs_check(file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")]) -> None:
    """List everything that is wrong with a pair file and its images; exit 1 when there is anything."""
    from pairuni.cli.pairs import check

    problems = check(file)
    typer.echo(
        f"{file}: {counted(problems, 'problem')}" if problems else f"{file}: no problems", err=problems > 0
    )
    if problems:
        raise typer.Exit(1)


@pairs_app.command("stats")
def pairs_stats(file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")]) -> None:
    """Count kinds, tags, images and similarities of a pair file, as JSON.

    With the three matchings side by side where the build had --compare-matchings true.
    """
    from pairuni.cli.pairs import stats

    typer.echo(json.dumps(stats(file), indent=2, ensure_ascii=False))


@pairs_app.command("gallery")
def pairs_gallery(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder, or PAGE.html for one page with the images inside; by default the folder "
            "gallery beside FILE."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, help="Of more pairs, this many are shown, at even distances.")
    ] = 20_000,
) -> None:
    """Make a page to look at pairs: search, filter by kind, tag and similarity; works offline."""
    from pairuni.cli.pairs import gallery

    made = gallery(file, out, most=most)
    if made.missing:
        typer.echo(f"images not found: {made.missing:,}; pairs check names them", err=True)
    typer.echo(f"{made.shown:,} of {counted(made.total, 'pair')}: {made.page}")


@pairs_app.command("convert")
def pairs_convert(
    source: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")],
    target: Annotated[Path, typer.Argument(help="The file to write, .jsonl or .parquet.")],
    embed: Annotated[bool, typer.Option("--embed", help="Images go into the parquet file.")] = False,
) -> None:
    """Write pairs as JSON Lines or parquet, with images beside the file or inside; in both directions."""
    from pairuni.cli.pairs import convert as run

    typer.echo(f"{counted(run(source, target, embed=embed), 'pair')}: {target}")


@pairs_app.command("push")
def pairs_push(
    file: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")],
    repo: Annotated[str, typer.Argument(help="The data set on the hub, as OWNER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="A new data set is private.")] = False,
) -> None:
    """Push pairs with their images and card to the Hugging Face hub; log in with: hf auth login."""
    from pairuni.cli.pairs import push

    typer.echo(push(file, repo, private=private))


@app.command(context_settings=WITH_OVERRIDES)
def train(
    ctx: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, such as recipes/janus_pro_1b.toml.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/RECIPE by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print settings, parameters, memory and tokens; train nothing.")
    ] = False,
) -> None:
    """Train by a recipe: train RECIPE [--section.key VALUE ...]

    Any setting may be overridden, as in --pairgrpo.learning-rate 2e-6 or --data.pairs=my/pairs.jsonl.
    """
    if str(recipe).startswith("-"):
        raise typer.BadParameter(f"give the recipe before {recipe}", param_hint="RECIPE")
    from pairuni.cli.training import train as run

    run(recipe, ctx.args, out, resume=resume, dry_run=dry_run)


@app.command()
def compare(
    results: Annotated[list[Path], typer.Argument(help="JSON results of eval TASK or eval score.")],
) -> None:
    """Show benchmark results side by side, with the paper's figures."""
    from pairuni.cli.evaluation import compare as run

    typer.echo(run(results))


@app.command("serve-reward", context_settings=WITH_OVERRIDES)
def serve_reward(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A reward as in reward.generation, such as hpsv2.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8100,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    recipe: Annotated[
        Path | None, typer.Option(help="Take the settings of rewards from this recipe.")
    ] = None,
    unguarded: Annotated[
        bool, typer.Option("--unguarded", help="Let other machines in without a token.")
    ] = False,
) -> None:
    """Serve a reward to runs on other GPUs or machines, which name it as the reward remote.

    serve-reward NAME [--reward.hpsv2.checkpoint FILE ...]: any setting of rewards may be given. PAIRUNI_REWARD_TOKEN
    in the environment, here and where runs train, keeps others out; other machines are let in with it alone.
    Needs pip install 'pairuni[serve]'. A stop (Ctrl-C, SIGTERM, SIGHUP) finishes the requests in flight.
    """
    from pairuni.cli.serving import serve

    serve(name, ctx.args, recipe=recipe, host=host, port=port, unguarded=unguarded)


@app.command()
def draw(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    out: Annotated[Path, typer.Option(help="The image's file; several become NAME-1, NAME-2, ...")],
    model: Model = "tiny",
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of images.")] = 1,
    seed: Seed = 0,
    guidance: Guidance = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")] = 1.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Draw images of a prompt."""
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
    image: Annotated[Path, typer.Argument(help="An image.")],
    question: Annotated[str, typer.Argument(help="A question about it.")],
    model: Model = "tiny",
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer in tokens; by default 512 or what fits.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Answer a question about an image, greedily."""
    from pairuni.cli.models import answer as run

    print_reply(run(model, image, question, max_new_tokens=max_new_tokens, device=device, dtype=dtype))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="A model's folder, or a hub name.")],
    target: Annotated[Path, typer.Argument(help="A new folder.")],
    layout: Annotated[Literal["transformers", "original"], typer.Option(help="The layout to write.")],
) -> None:
    """Convert a Janus checkpoint between the transformers layout and the original one."""
    from pairuni.cli.models import convert as run

    typer.echo(run(source, target, layout))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run's folder, or one of its checkpoints.")],
    out: Annotated[
        Path | None, typer.Option(help="The new model's folder; RUN/exported/step-N by default.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Where the model is that the run began with, if it has moved.")
    ] = None,
) -> None:
    """Make a model folder of a checkpoint, the newest one of a run; also while the run is going."""
    from pairuni.cli.models import export as run

    typer.echo(run(source, out, base=base))


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run's folder.")]) -> None:
    """Write a run's report.html anew, one page that stands alone."""
    from pairuni.report import write_report

    typer.echo(f"report: {write_report(run)}")


@app.command()
def env() -> None:
    """Print versions and devices, for reports of bugs."""
    from pairuni.cli.environment import describe

    for name, value in describe().items():
        typer.echo(f"{name:<14}{value}")


def main() -> None:
    """The console script. Modules of one's own are found in the working directory, as with ``python -m``."""
    make_visible()
    sys.path.append(os.getcwd())
    app(prog_name="pairuni")
