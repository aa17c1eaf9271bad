"""pairuni agreement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.api.training import check_pair_files
from pairuni.cli.errors import Interrupted
from pairuni.config import RunSettings, load_settings
from pairuni.distributed.shares import refuse_several
from pairuni.io.locks import folder_lock
from pairuni.runs.mixes import MIXES, Mix, mix_statistics, statistics_table


def agreement(recipe: Path, overrides: Sequence[str], out: Path, *, batches: int, mixes: str | None) -> None:
    """Measure the gradient agreement of data mixes into ``out``, write the page and print the statistics.

    mixes: names separated by commas; None is all. Raises Interrupted if Ctrl-C ended it; its batches are saved.
    """
    refuse_several(os.environ, "agreement")
    settings = load_settings(RunSettings, recipe, overrides)
    check_pair_files(settings)
    chosen = _chosen(mixes)
    from pairuni.pairgrpo.mixes import measure_mixes
    from pairuni.report import write_mixes
    from pairuni.runs.mixes import MixesFolder

    with folder_lock(out, "agreement"):
        try:
            measure_mixes(settings, out, chosen, batches)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; the same command with --out {out} continues") from None
        page = write_mixes(out)
        found = mix_statistics(MixesFolder(out).read())
    typer.echo(_aligned(statistics_table(found)))
    typer.echo(f"page: {page}")


def _chosen(mixes: str | None) -> list[Mix]:
    """The named mixes in the order of ``MIXES``. Raises ValueError for an unknown name."""
    if mixes is None:
        return list(MIXES)
    names = [name.strip() for name in mixes.split(",") if name.strip()]
    unknown = [name for name in names if name not in MIXES]
    if unknown or not names:
        raise ValueError(
            f"--mixes {mixes}: {(unknown or [''])[0]!r} is no mix; choose from {', '.join(MIXES)}"
        )
    return [mix for mix in MIXES if mix in names]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
