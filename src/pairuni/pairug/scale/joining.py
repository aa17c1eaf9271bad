"""What the builds of all parts made, put together as one data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairuni.io.files import atomic_write, write_text
from pairuni.pairug.dataset.card import read_stats, write_card
from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.pairug.dataset.store import read_pairs, read_quadruples, write_pairs
from pairuni.pairug.jsonl import dump_line
from pairuni.pairug.record_file import RecordFile
from pairuni.pairug.scale.splitting import PARTS, RECIPE
from pairuni.records import Quadruple, UGPair

PAIRS = "pairs.jsonl"
_OF_THE_WHOLE = ("compared", "recall")
"""Shares, of which the least favourable part's stands for all."""


def join_parts(out: Path) -> int:
    """Write what all parts made into OUT as one build does, images staying where they are; the number of pairs.

    quadruples.jsonl, dropped.jsonl, stats.json (counts added up), README.md, and pairs.jsonl last. Raises ValueError
    when a part has no pairs yet, saying how to build it.
    """
    folders = sorted(path for path in (out / PARTS).glob("*") if path.is_dir())
    if not folders:
        raise ValueError(f"{out / PARTS} holds no parts; pairuni pairs split makes them")
    for folder in folders:
        if not (folder / PAIRS).is_file():
            raise ValueError(f"{folder} has no pairs yet: pairuni pairs build {folder / RECIPE}")
    pairs = RecordFile(out / "cache", UGPair)
    for folder in folders:
        pairs.extend(_moved(pair, folder.relative_to(out)) for pair in read_pairs(folder / PAIRS))
    with atomic_write(out / "quadruples.jsonl") as aside, aside.open("w", encoding="utf-8") as lines:
        lines.writelines(map(dump_line, _quadruples(folders, out)))
    with atomic_write(out / "dropped.jsonl") as aside, aside.open("w", encoding="utf-8") as lines:
        for folder in (out / PARTS, *folders):
            if (folder / "dropped.jsonl").is_file():
                lines.write((folder / "dropped.jsonl").read_text(encoding="utf-8"))
    stats = {**_added_up([read_stats(folder) for folder in folders]), **pair_statistics(pairs)}
    write_text(out / "stats.json", json.dumps(stats, indent=1) + "\n")
    write_card(out, pairs, data_files=PAIRS, name=out.resolve().name)
    write_pairs(out / PAIRS, pairs)
    return len(pairs)


def _quadruples(folders: Sequence[Path], out: Path) -> Iterator[Quadruple]:
    for folder in folders:
        for quadruple in read_quadruples(folder / "quadruples.jsonl"):
            place = (folder.relative_to(out) / quadruple.image_path).as_posix()
            yield quadruple.model_copy(update={"image_path": place})


def _added_up(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The stats of the first part, which all share, with the counts of all."""
    whole = dict(parts[0])
    whole["build"] = _sums([part["build"] for part in parts])
    whole["left_out"] = {
        corpus: dict(sum((Counter(part["left_out"][corpus]) for part in parts), Counter()))
        for corpus in parts[0]["left_out"]
    }
    whole["pictures"] = dict(sum((Counter(part.get("pictures", {})) for part in parts), Counter()))
    whole["settings"] = {**whole["settings"], "clusters": None}
    if "completion" in whole:
        whole["completion"] = _sums([part["completion"] for part in parts])
    whole.pop("matchings", None)
    whole["parts"] = len(parts)
    return whole


def _sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers added up, shares at their worst, the rest of the first."""
    return {
        name: min(row[name] for row in rows)
        if name in _OF_THE_WHOLE
        else sum(row[name] for row in rows)
        if isinstance(value, int | float)
        else value
        for name, value in rows[0].items()
    }


def _moved(pair: UGPair, folder: Path) -> UGPair:
    """With image paths from the folder that ``folder`` lies in."""
    sides = {
        side: annotation.model_copy(update={"image_path": (folder / annotation.image_path).as_posix()})
        for side, annotation in (("generate_ann", pair.generate_ann), ("understand_ann", pair.understand_ann))
    }
    return pair.model_copy(update=sides)
