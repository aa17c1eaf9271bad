"""PairUG on disk: the paper's JSONL and the same pairs as parquet; checks and statistics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pairuni.files import replacing, write_text
from pairuni.pairug.images import image_fault
from pairuni.pairug.jsonl import Problem, dump_line, iter_records, raise_first
from pairuni.records import Annotation, UGPair

_SIDES = ("generate_ann", "understand_ann")
_SIDE = pa.struct([(name, pa.string()) for name in Annotation.model_fields] + [("extra", pa.string())])
_SCHEMA = pa.schema(
    [
        ("similarity", pa.float64()),
        ("kind", pa.string()),
        *((side, _SIDE) for side in _SIDES),
        ("extra", pa.string()),
    ]
)
"""Columns of the parquet form; ``extra`` holds unknown keys as JSON so that none is lost."""


def read_pairs(path: Path) -> list[UGPair]:
    """All pairs of a .jsonl or .parquet file.

    Raises ValueError naming file, line (row), field and reason of the first bad pair, and how many more.
    """
    found = [record for _, record in _iter_pairs(path)]
    raise_first([record for record in found if isinstance(record, Problem)])
    pairs = [record for record in found if isinstance(record, UGPair)]
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs


def iter_problems(path: Path) -> Iterator[Problem]:
    """Everything that is wrong with a pair file: bad lines, and images that do not open whole."""
    faults: dict[str, str | None] = {}
    for number, record in _iter_pairs(path):
        if isinstance(record, Problem):
            yield record
            continue
        for side in _SIDES:
            image_path = getattr(record, side).image_path
            if image_path not in faults:
                faults[image_path] = image_fault(path.parent, image_path)
            fault = faults[image_path]
            if fault is not None:
                yield Problem(path, number, f"{side}.image_path", fault)


def write_pairs(path: Path, pairs: Sequence[UGPair]) -> None:
    """Write pairs as .jsonl or .parquet, by the suffix; an older file stays until the new one is whole."""
    if _is_parquet(path):
        table = pa.Table.from_pylist([_row(pair) for pair in pairs], schema=_SCHEMA)
        with replacing(path) as aside:
            pq.write_table(table, aside)
    else:
        write_text(path, "".join(dump_line(pair) for pair in pairs))


def pair_statistics(pairs: Sequence[UGPair]) -> dict[str, Any]:
    """Counts by kind and tag, distinct images, similarity of retrieved pairs, letters of answers."""
    retrieved = np.array([pair.similarity for pair in pairs if pair.kind == "retrieved"])
    counts, edges = np.histogram(retrieved, bins=20, range=(0.0, 1.0))
    quantiles = np.quantile(retrieved, [0, 0.25, 0.5, 0.75, 1]) if len(retrieved) else np.zeros(0)
    answers = [pair.understand_ann.answer for pair in pairs] + [pair.generate_ann.answer for pair in pairs]
    return {
        "pairs": len(pairs),
        "kinds": _counted(pair.kind for pair in pairs),
        "generation_tags": _counted(pair.generate_ann.tag for pair in pairs),
        "understanding_tags": _counted(pair.understand_ann.tag for pair in pairs),
        "distinct_images": len({getattr(pair, side).image_path for pair in pairs for side in _SIDES}),
        "retrieved_similarity": {
            "quantiles": [round(float(q), 4) for q in quantiles],
            "histogram": counts.tolist(),
            "edges": [round(float(edge), 2) for edge in edges],
        },
        "answer_letters": _counted(answer for answer in answers if answer in tuple("ABCDEF")),
    }


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: a pair file ends in .jsonl or .parquet")
    return path.suffix == ".parquet"


def _iter_pairs(path: Path) -> Iterator[tuple[int, UGPair | Problem]]:
    if not _is_parquet(path):
        yield from iter_records(path, UGPair)
        return
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a whole parquet file ({error})") from None
    for number, row in enumerate(rows, start=1):
        yield number, _from_row(path, number, row)


def _row(pair: UGPair) -> dict[str, Any]:
    def side(annotation: Annotation) -> dict[str, Any]:
        known = annotation.model_dump(include=set(Annotation.model_fields))
        return {**known, "extra": _json(annotation.model_extra)}

    sides = {name: side(getattr(pair, name)) for name in _SIDES}
    return {"similarity": pair.similarity, "kind": pair.kind, **sides, "extra": _json(pair.model_extra)}


def _json(extra: dict[str, Any] | None) -> str:
    return json.dumps(extra or {}, ensure_ascii=False)


def _from_row(path: Path, number: int, row: dict[str, Any]) -> UGPair | Problem:
    def open_up(values: dict[str, Any]) -> dict[str, Any]:
        return {**json.loads(values.pop("extra", None) or "{}"), **values}

    try:
        sides = {name: open_up(row[name]) for name in _SIDES}
        extra = json.loads(row.get("extra") or "{}")
        return UGPair.model_validate({**extra, "similarity": row["similarity"], **sides})
    except KeyError as error:
        return Problem(path, number, str(error.args[0]), "is missing")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return Problem(path, number, ".".join(map(str, first["loc"])), first["msg"])
