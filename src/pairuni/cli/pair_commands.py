"""`pairuni pairs`: the commands and their options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pairuni.cli.errors import Group
from pairuni.cli.options import SETTINGS_AS_OPTIONS, SETTINGS_HEADING
from pairuni.cli.settings_help import help_with
from pairuni.config import PairsSettings
from pairuni.console.counts import counted

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Build, check, inspect, convert and publish PairUG files."
)

PairFile = Annotated[Path, typer.Argument(help="A .jsonl or .parquet file of pairs.")]


def _recipe_and_options(ctx: typer.Context) -> tuple[Path | None, list[str]]:
    """[RECIPE] and the options of a command whose options are settings."""
    words = list(ctx.args)
    if words and not words[0].startswith("-"):
        return Path(words[0]), words[1:]
    return None, words


@app.command("build", context_settings=SETTINGS_AS_OPTIONS, cls=help_with(PairsSettings, SETTINGS_HEADING))
def build_command(
    ctx: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print settings, and requests, tokens and cost of completion; build nothing."
        ),
    ] = False,
) -> None:
    """Build pairs from raw data: pairs build [RECIPE] --understanding U.parquet --generation G.tar,MORE.jsonl --out DIR

    The same command resumes a stopped build. Exit code 3: paused at a budget or for a batch.
    """
    from pairuni.cli.pairs import build, plan

    recipe, words = _recipe_and_options(ctx)
    if dry_run:
        typer.echo(plan(recipe, words))
        return
    typer.echo(f"pairs: {build(recipe, words)}")


@app.command("encode", context_settings=SETTINGS_AS_OPTIONS)
def encode_command(ctx: typer.Context) -> None:
    """Compute the image features of pairs build, with its recipe and settings, in one process or under torchrun.

    torchrun --nproc-per-node 8 -m pairuni pairs encode RECIPE: each process encodes its share on its own GPU, and
    pairs build reads the features from the cache. The same command resumes after a stop.
    """
    from pairuni.cli.pairs import encode

    recipe, words = _recipe_and_options(ctx)
    typer.echo(encode(recipe, words))


@app.command("split", context_settings=SETTINGS_AS_OPTIONS)
def split_command(
    ctx: typer.Context,
    parts: Annotated[int, typer.Option(min=1, help="Maximum number of parts.")] = 16,
) -> None:
    """Split raw data that is too large for one build into parts, with the recipe and settings of pairs build.

    A part holds similar images. OUT/parts/000, 001, ... have its data, features and build.toml; pairs join merges the
    pairs.
    """
    from pairuni.cli.pairs import split

    recipe, words = _recipe_and_options(ctx)
    typer.echo(split(recipe, words, parts))


@app.command("join")
def join_command(
    out: Annotated[Path, typer.Argument(help="The folder that pairs split wrote into.")],
) -> None:
    """Merge the pairs of all parts into OUT/pairs.jsonl; images stay where they are."""
    from pairuni.cli.pairs import join

    typer.echo(join(out))


@app.command("check")
def check_command(file: PairFile) -> None:
    """List every problem of a pair file and its images; exit code 1 if there is one."""
    from pairuni.cli.pairs import check

    problems = check(file)
    typer.echo(
        f"{file}: {counted(problems, 'problem')}" if problems else f"{file}: no problems", err=problems > 0
    )
    if problems:
        raise typer.Exit(1)


@app.command("stats")
def stats_command(
    file: PairFile,
    paper: Annotated[
        bool, typer.Option("--paper", help="Print the counts beside those of the paper's PairUG-16k instead.")
    ] = False,
) -> None:
    """Print statistics of a pair file as JSON: kinds, tags, images, similarities.

    Includes a comparison of the three matchings if the pairs were built with --compare-matchings true.
    """
    from pairuni.cli.pairs import beside_paper, stats

    if paper:
        typer.echo(beside_paper(file))
        return

    typer.echo(json.dumps(stats(file), indent=2, ensure_ascii=False))


@app.command("gallery")
def gallery_command(
    file: PairFile,
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


@app.command("convert")
def convert_command(
    source: PairFile,
    target: Annotated[Path, typer.Argument(help="The file to write, .jsonl or .parquet.")],
    embed: Annotated[bool, typer.Option("--embed", help="Store the images inside the parquet file.")] = False,
) -> None:
    """Convert a pair file between JSON Lines and parquet, with images next to the file or inside it."""
    from pairuni.cli.pairs import convert as run

    typer.echo(f"{counted(run(source, target, embed=embed), 'pair')}: {target}")


@app.command("push")
def push_command(
    file: PairFile,
    repo: Annotated[str, typer.Argument(help="Data set on the hub, as OWNER/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Create the data set as private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to push to; created if it is missing.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write what would be uploaded to this folder, and upload nothing.")
    ] = None,
) -> None:
    """Push pairs with their images and card to the Hugging Face hub; log in first with: hf auth login."""
    from pairuni.cli.pairs import push

    typer.echo(push(file, repo, out, private=private, revision=revision))
