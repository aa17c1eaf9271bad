"""Joins the builds of all parts into one data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pairuni.pairug.dataset.card import read_stats
from pairuni.pairug.dataset.folder import DROPPED, write_dataset
from pairuni.pairug.dataset.parquet import SIDES
from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.pairug.dataset.store import PAIRS, QUADRUPLES, read_pairs, read_quadruples
from pairuni.pairug.record_file import RecordFile
from pairuni.pairug.scale.splitting import PARTS, RECIPE
from pairuni.records import Annotation, Quadruple, UGPair

Side = TypeVar("Side", Annotation, Quadruple)

_SHARES = ("compared", "recall")
"""Statistics that are shares: for the data set, the minimum over its parts."""


def join_parts(out: Path) -> int:
    """Write the data set of all parts to ``out``; images stay in the parts. Returns the number of pairs.

    Raises ValueError when a part is not built yet; the message says how to build it.
    """
    folders = sorted(path for path in (out / PARTS).glob("*") if path.is_dir())
    if not folders:
        raise ValueError(f"{out / PARTS} has no parts; create them with pairuni pairs split")
    for folder in folders:
        if not (folder / PAIRS).is_file():
            raise ValueError(f"{folder} has no pairs yet: pairuni pairs build {folder / RECIPE}")
    pairs = RecordFile(out / "cache", UGPair)
    for folder in folders:
        pairs.extend(_moved(pair, folder.relative_to(out)) for pair in read_pairs(folder / PAIRS))
    write_dataset(
        out,
        pairs,
        quadruples=_quadruples(folders, out),
        dropped=_dropped([out / PARTS, *folders]),
        stats={**_added_up([read_stats(folder) for folder in folders]), **pair_statistics(pairs)},
    )
    return len(pairs)


def _quadruples(folders: Sequence[Path], out: Path) -> Iterator[Quadruple]:
    for folder in folders:
        for quadruple in read_quadruples(folder / QUADRUPLES):
            yield _moved_side(quadruple, folder.relative_to(out))


def _dropped(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        if (folder / DROPPED).is_file():
            yield (folder / DROPPED).read_text(encoding="utf-8")


def _added_up(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The statistics of the first part, with the counts of all parts added up."""
    joined = dict(parts[0])
    joined["build"] = _sums([part["build"] for part in parts])
    joined["left_out"] = {
        corpus: dict(sum((Counter(part["left_out"][corpus]) for part in parts), Counter()))
        for corpus in parts[0]["left_out"]
    }
    joined["pictures"] = dict(sum((Counter(part.get("pictures", {})) for part in parts), Counter()))
    joined["settings"] = {**joined["settings"], "clusters": None}
    if "completion" in joined:
        joined["completion"] = _sums([part["completion"] for part in parts])
    joined.pop("matchings", None)
    joined["parts"] = len(parts)
    return joined


def _sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts added up, the lowest of shares, other values of the first row."""
    sums = dict(rows[0])
    for name, value in rows[0].items():
        if isinstance(value, int | float):
            values = [row[name] for row in rows]
            sums[name] = min(values) if name in _SHARES else sum(values)
    return sums


def _moved(pair: UGPair, folder: Path) -> UGPair:
    """The pair with image paths relative to the parent of ``folder``."""
    sides = {}
    for name in SIDES:
        sides[name] = _moved_side(getattr(pair, name), folder)
    return pair.model_copy(update=sides)


def _moved_side(side: Side, folder: Path) -> Side:
    return side.with_images([(folder / path).as_posix() for path in side.image_paths])
