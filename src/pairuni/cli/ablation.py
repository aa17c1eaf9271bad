"""pairuni ablate."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.cli.errors import Interrupted


def ablate(
    path: Path,
    overrides: Sequence[str],
    *,
    out: Path,
    seeds: int | None,
    rows: Sequence[str],
    jobs: int | None,
    suite: Path | None = None,
) -> None:
    """Run the study of a file, or what is left of it. Raises Interrupted if Ctrl-C ended it; its work is saved."""
    from pairuni.studies.study import Study, run_study

    study = Study.load(path, out, overrides=overrides, seeds=seeds, rows=rows)
    given = [*(["--seeds", str(seeds)] if seeds else []), *(word for row in rows for word in ("--row", row))]
    command = shlex.join(["pairuni", "ablate", str(path), *given, *overrides])
    try:
        page = run_study(study, jobs=jobs, command=command, suite=suite)
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command with --out {out} continues") from None
    typer.echo(page.with_suffix(".md").read_text(encoding="utf-8"))
    typer.echo(f"results: {study.results_file}")
    typer.echo(f"page: {page}")
