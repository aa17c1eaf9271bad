"""Building, checking and counting pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pairuni.config import PairsSettings, load_settings
from pairuni.training.tracking import Stages

if TYPE_CHECKING:
    from pairuni.pairug.features import Encoder

OWN_TOWER = "policy:"
"""How an encoder's name begins that means a policy's own vision tower."""


def build(recipe: Path | None, overrides: Sequence[str]) -> Path:
    """Build PairUG by a recipe and overrides; returns the pair file."""
    settings = load_settings(PairsSettings, recipe, overrides)
    for path in (settings.understanding, settings.generation):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file of raw samples")

    from pairuni.pairug.build import build_pairs
    from pairuni.pairug.completion import make_completer

    completer = make_completer(settings.completer)
    with Stages() as stages:
        summary = build_pairs(
            settings, encoder=_encoder(settings.encoder), completer=completer, advance=stages.advance
        )
    typer.echo(
        f"{summary.samples:,} samples, {summary.quadruples:,} completed, {summary.dropped:,} dropped; "
        f"{summary.pairs:,} pairs: {summary.aligned:,} aligned, {summary.retrieved:,} retrieved"
    )
    return settings.out / "pairs.jsonl"


def check(path: Path) -> int:
    """Print every problem of a pair file; returns their number."""
    from pairuni.pairug.store import iter_problems

    count = 0
    for problem in iter_problems(path):
        typer.echo(str(problem))
        count += 1
    return count


def stats(path: Path) -> dict[str, Any]:
    """Statistics of a pair file."""
    from pairuni.pairug.statistics import pair_statistics
    from pairuni.pairug.store import read_pairs

    return pair_statistics(read_pairs(path))


def _encoder(name: str) -> Encoder:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not name.startswith(OWN_TOWER):
        from pairuni.pairug.encoders import transformers_encoder

        return transformers_encoder(name, device)
    from pairuni.policies.registry import load_policy

    policy = load_policy(name.removeprefix(OWN_TOWER), device=device)
    return lambda images: policy.image_features(images).numpy()
