"""The files of a data set, as a build writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairuni.io.files import atomic_write, write_text
from pairuni.pairug.dataset.card import STATS, write_card
from pairuni.pairug.dataset.store import PAIRS, QUADRUPLES, write_pairs
from pairuni.pairug.jsonl import dump_line
from pairuni.records import Quadruple, UGPair

DROPPED = "dropped.jsonl"


def write_dataset(
    out: Path,
    pairs: Sequence[UGPair],
    *,
    quadruples: Iterable[Quadruple],
    dropped: Iterable[str],
    stats: Mapping[str, Any],
) -> None:
    """Write the files of a data set to ``out``, each one atomically, pairs.jsonl last.

    quadruples.jsonl: all completed samples. dropped.jsonl: samples that were not used, with reasons, given as lines.
    stats.json. README.md: the data set card. pairs.jsonl: the pairs.
    """
    _write_lines(out / QUADRUPLES, map(dump_line, quadruples))
    _write_lines(out / DROPPED, dropped)
    write_text(out / STATS, json.dumps(stats, indent=1) + "\n")
    write_card(out, pairs, data_files=PAIRS, name=out.resolve().name)
    write_pairs(out / PAIRS, pairs)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(lines)
