"""The commands of `pairuni pairs`: build, encode, split, join, check, stats, gallery, convert, push."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pairuni.api.pairs import build_pairs, check_inputs, make_encoder
from pairuni.cli.errors import Paused
from pairuni.config import PairsSettings, load_settings, to_toml
from pairuni.console.counts import counted
from pairuni.console.progress import Stages
from pairuni.console.terminal import visible
from pairuni.distributed.shares import refuse_several, share_of
from pairuni.io.locks import folder_lock, target_lock

if TYPE_CHECKING:
    from pairuni.report.gallery import Gallery


def build(recipe: Path | None, overrides: Sequence[str]) -> Path:
    """Build PairUG from a recipe and overrides; returns the pair file."""
    settings = load_settings(PairsSettings, recipe, overrides)
    from pairuni.pairug.completion.costs import CompletionPaused
    from pairuni.pairug.dataset.store import PAIRS

    try:
        summary = build_pairs(settings)
    except CompletionPaused as pause:
        raise Paused(str(pause)) from None
    failed = f", {summary.failed:,} failed" if summary.failed else ""
    typer.echo(
        f"{counted(summary.samples, 'sample')}, {summary.quadruples:,} completed, {summary.dropped:,} dropped{failed}; "
        f"{counted(summary.pairs, 'pair')}: {summary.aligned:,} aligned, {summary.retrieved:,} retrieved"
    )
    if summary.compared < 1.0:
        typer.echo(
            f"candidates were searched in near clusters: {summary.compared:.2%} of the cosines, "
            f"recall {summary.recall:.4f} on a sample"
        )
    return settings.out / PAIRS


def encode(recipe: Path | None, overrides: Sequence[str]) -> str:
    """Encode the images of the raw data, or this process's share of them; returns a report."""
    settings = _of_raw_data(recipe, overrides, "pairs encode")
    check_inputs(settings)

    from pairuni.pairug.scale.encoding import encode_raw

    share = share_of(os.environ)
    with folder_lock(settings.out, "pairs encode", rank=share.rank), Stages(unit="images") as stages:
        encoded = encode_raw(settings, make_encoder(settings), share, partial(stages.advance, "features"))
    who = f"process {share.rank + 1} of {share.world_size}: " if share.world_size > 1 else ""
    done = f"{who}{encoded.images - len(encoded.faults):,} of {counted(encoded.images, 'image')} encoded"
    if not encoded.faults:
        return done
    path, fault = next(iter(encoded.faults.items()))
    return f"{done}; {len(encoded.faults):,} cannot be encoded, the first: {path} {fault}"


def split(recipe: Path | None, overrides: Sequence[str], parts: int) -> str:
    """Split the raw data into parts that are built separately; returns a report and the next commands."""
    settings = _of_raw_data(recipe, overrides, "pairs split")
    refuse_several(os.environ, "pairs split")
    check_inputs(settings)

    from pairuni.pairug.scale.splitting import PARTS, RECIPE, split_raw

    with folder_lock(settings.out, "pairs split"), Stages(unit="images") as stages:
        sizes = split_raw(settings, make_encoder(settings), parts, partial(stages.advance, "features"))
    largest = max(size.total() for size in sizes)
    return (
        f"{counted(len(sizes), 'part')}, the largest of {counted(largest, 'sample')}; build each, "
        f"then join their pairs: "
        f"pairuni pairs build {settings.out / PARTS}/000/{RECIPE} ...; pairuni pairs join {settings.out}"
    )


def _of_raw_data(recipe: Path | None, overrides: Sequence[str], command: str) -> PairsSettings:
    settings = load_settings(PairsSettings, recipe, overrides)
    if settings.completed is not None:
        raise ValueError(f"{command} reads raw data: remove completed, which only pairs build uses")
    return settings


def join(out: Path) -> str:
    """Join the pairs of all parts; returns a report."""
    from pairuni.pairug.dataset.store import PAIRS
    from pairuni.pairug.scale.joining import join_parts

    refuse_several(os.environ, "pairs join")
    with folder_lock(out, "pairs join"):
        return f"{counted(join_parts(out), 'pair')}: {out / PAIRS}"


def plan(recipe: Path | None, overrides: Sequence[str]) -> str:
    """The resolved settings and, for a model as annotator, the calls, tokens and cost still ahead."""
    settings = load_settings(PairsSettings, recipe, overrides)
    if settings.completed is not None:
        return f"{to_toml(settings)}\nsamples that {settings.completed} has completed: nothing to pay"
    from pairuni.pairug.build import plan_completion
    from pairuni.pairug.completion.annotator import make_annotator
    from pairuni.pairug.completion.model_annotator import MODEL_ANNOTATORS, ModelAnnotator, check_settings

    if settings.annotator not in MODEL_ANNOTATORS:
        make_annotator(settings.annotator, settings.completion)
        return f"{to_toml(settings)}\nthe annotator {settings.annotator} sends no requests to a model: nothing to pay"
    check_settings(settings.annotator, settings.completion)
    ahead = plan_completion(settings, ModelAnnotator(settings.annotator, settings.completion))
    priced = settings.completion.price_input or settings.completion.price_output
    cost = f"{ahead.least_cost:,.2f} to {ahead.most_cost:,.2f}" if priced else "no prices are set"
    basis = f"measured on {counted(ahead.stored, 'stored answer')}" if ahead.measured else "estimated"
    return (
        f"{to_toml(settings)}\n"
        f"{'samples':<14}{ahead.samples:,}, {ahead.completed:,} of them need no further call\n"
        f"{'calls':<14}{ahead.least_calls:,} if every reply is good at once, "
        f"{ahead.most_calls:,} if every sample takes all its tries\n"
        f"{'tokens':<14}{ahead.prompt_tokens:,} sent and {ahead.completion_tokens:,} received in "
        f"{counted(ahead.least_calls, 'call')}, {basis}\n"
        f"{'cost':<14}{cost}"
    )


def check(path: Path) -> int:
    """Print all problems of a pair file; returns their number."""
    from pairuni.io.images import Trait
    from pairuni.pairug.dataset.images import describe_traits
    from pairuni.pairug.dataset.store import iter_problems

    count = 0
    traits = Counter[Trait]()
    for problem in iter_problems(path, traits):
        typer.echo(visible(str(problem), one_line=True))
        count += 1
    for sentence in describe_traits(traits):
        typer.echo(sentence)
    return count


def stats(path: Path) -> dict[str, Any]:
    """Statistics of a pair file, with the comparison of matchings if its build made one."""
    from pairuni.pairug.dataset.card import read_stats
    from pairuni.pairug.dataset.statistics import pair_statistics
    from pairuni.pairug.dataset.store import read_pairs

    compared = read_stats(path.parent).get("matchings")
    found = pair_statistics(read_pairs(path))
    return found if compared is None else {**found, "matchings": compared}


def beside_paper(path: Path) -> str:
    """The counts of a pair file beside those of the paper, as text."""
    from pairuni.pairug.dataset.beside_paper import counts_beside_paper
    from pairuni.pairug.dataset.store import read_pairs

    return counts_beside_paper(read_pairs(path))


def gallery(path: Path, out: Path | None, *, most: int) -> Gallery:
    """Write an HTML page of a pair file to ``out``; by default, to the folder gallery next to it."""
    from pairuni.pairug.dataset.store import check_pair_file, read_pairs
    from pairuni.report.gallery import write_gallery

    check_pair_file(path)
    refuse_several(os.environ, "pairs gallery")
    pairs = read_pairs(path)
    out = path.parent / "gallery" if out is None else out
    with target_lock(out, "pairs gallery"), Stages(unit="images") as stages:
        return write_gallery(
            pairs,
            path.parent,
            out,
            title=f"{path.resolve().parent.name}/{path.name}",
            most=most,
            advance=partial(stages.advance, "thumbnails"),
        )


def convert(source: Path, target: Path, *, embed: bool) -> int:
    """Write a pair file in another format or folder; returns the number of pairs."""
    from pairuni.pairug.dataset.conversion import convert_pairs

    refuse_several(os.environ, "pairs convert")
    with folder_lock(target.parent, "pairs convert"):
        return convert_pairs(source, target, embed=embed)


def push(path: Path, repo: str, out: Path | None, *, private: bool, revision: str | None) -> str:
    """Push a pair file to the hub, or write the folder to ``out``; returns its address, or a message."""
    from pairuni.pairug.dataset.publishing import push_pairs, write_data_set

    refuse_several(os.environ, "pairs push")
    if out is None:
        return push_pairs(path, repo, private=private, revision=revision)
    return f"{out}: {counted(write_data_set(path, repo, out), 'pair')}, as {repo} would get them"
