"""PairUG on disk: the paper's JSONL and the same pairs as parquet, by suffix; checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairuni.files import replacing
from pairuni.pairug.images import image_fault, path_fault
from pairuni.pairug.jsonl import Problem, dump, dump_line, iter_objects, raise_first, validate
from pairuni.records import Annotation, Quadruple, UGPair

SIDES = ("generate_ann", "understand_ann")
_SIDE = pa.struct([(name, pa.string()) for name in Annotation.model_fields] + [("extra", pa.string())])
_SCHEMA = pa.schema(
    [("similarity", pa.float64()), ("kind", pa.string())]
    + [(side, _SIDE) for side in SIDES]
    + [("extra", pa.string())]
)
"""Columns of the parquet form; ``extra`` holds unknown keys as a JSON object so that none is lost."""
_ROWS = 8192


def read_pairs(path: Path) -> list[UGPair]:
    """All pairs of a .jsonl or .parquet file.

    Raises FileNotFoundError, or ValueError naming file, line (row), field and reason of the first problem and
    how many more there are. An image path that is absolute or leaves the file's folder is a problem; whether
    the images open is ``iter_problems``'s question.
    """
    pairs: list[UGPair] = []
    problems: list[Problem] = []
    for number, found in _iter_pairs(path):
        if isinstance(found, list):
            problems += found
        else:
            problems += _image_problems(path, number, found, path_fault)
            pairs.append(found)
    raise_first(problems)
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs


def read_quadruples(path: Path) -> list[Quadruple]:
    """All completed samples of a build, from the JSONL beside its pairs. Raises as ``read_pairs`` does."""
    quadruples: list[Quadruple] = []
    problems: list[Problem] = []
    for number, values in iter_objects(path):
        found = [values] if isinstance(values, Problem) else validate(path, number, values, Quadruple)
        if isinstance(found, list):
            problems += found
            continue
        fault = path_fault(path.parent, found.image_path)
        if fault is not None:
            problems.append(Problem(path, number, "image_path", f"{found.image_path!r} {fault}"))
        quadruples.append(found)
    raise_first(problems)
    return quadruples


def iter_problems(path: Path) -> Iterator[Problem]:
    """Everything that is wrong with a pair file: its lines, its fields, and images that do not open whole.

    Raises FileNotFoundError when it is missing and ValueError when a parquet file cannot be read at all.
    """
    faults: dict[str, str | None] = {}

    def fault_once(folder: Path, image_path: str) -> str | None:
        if image_path not in faults:
            faults[image_path] = image_fault(folder, image_path)
        return faults[image_path]

    number = 0
    for number, found in _iter_pairs(path):
        if isinstance(found, list):
            yield from found
        else:
            yield from _image_problems(path, number, found, fault_once)
    if not number:
        yield Problem(path, 0, "", "holds no pairs")


def write_pairs(path: Path, pairs: Iterable[UGPair]) -> None:
    """Write pairs as .jsonl or .parquet, by the suffix; an older file stays until the new one is whole.

    Strict: raises ValueError, naming the pair, for no pairs at all, values that a reader would refuse, image
    paths that are not relative to the file's folder and inside it, and extras that JSON cannot hold.
    """
    checked = _checked(path, pairs)
    if _is_parquet(path):
        with replacing(path) as aside, pq.ParquetWriter(aside, _SCHEMA) as writer:
            for rows in _batches(checked):
                writer.write_table(pa.Table.from_pylist([_row(pair) for pair in rows], schema=_SCHEMA))
    else:
        with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
            file.writelines(dump_line(pair) for pair in checked)


def _checked(path: Path, pairs: Iterable[UGPair]) -> Iterator[UGPair]:
    number = 0
    for number, pair in enumerate(pairs, start=1):
        values = pair.model_dump()
        found = validate(path, number, values, UGPair)
        problems = found if isinstance(found, list) else _image_problems(path, number, found, path_fault)
        if problems:
            raise ValueError(
                f"{path} was not written: pair {number}, {problems[0].field}: {problems[0].reason}"
            )
        try:
            dump(values)
        except ValueError as error:
            raise ValueError(f"{path} was not written: pair {number}: {error}") from None
        yield pair
    if not number:
        raise ValueError(f"{path} was not written: there are no pairs")


def _image_problems(path: Path, number: int, pair: UGPair, fault_of: Any) -> list[Problem]:
    problems = []
    for side in SIDES:
        image_path = getattr(pair, side).image_path
        fault = fault_of(path.parent, image_path)
        if fault is not None:
            problems.append(Problem(path, number, f"{side}.image_path", f"{image_path!r} {fault}"))
    return problems


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: a pair file ends in .jsonl or .parquet")
    return path.suffix == ".parquet"


def _iter_pairs(path: Path) -> Iterator[tuple[int, UGPair | list[Problem]]]:
    rows = _iter_rows(path) if _is_parquet(path) else iter_objects(path)
    for number, values in rows:
        if isinstance(values, Problem):
            yield number, [values]
        else:
            yield number, validate(path, number, values, UGPair)


def _iter_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _values(path, number, row)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a whole parquet file ({str(error).splitlines()[0]})") from None


def _row(pair: UGPair) -> dict[str, Any]:
    sides = {
        name: {**side.model_dump(include=set(Annotation.model_fields)), "extra": _json(side.model_extra)}
        for name, side in ((name, getattr(pair, name)) for name in SIDES)
    }
    return {"similarity": pair.similarity, "kind": pair.kind, **sides, "extra": _json(pair.model_extra)}


def _json(extra: dict[str, Any] | None) -> str | None:
    return dump(extra) if extra else None


def _values(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any] | Problem:
    """A row as the JSON object that it stands for; ``kind`` follows from the images and is not read."""
    row.pop("kind", None)
    try:
        for name in SIDES:
            if isinstance(row.get(name), dict):
                row[name] = _with_extra(row[name])
        return _with_extra(row)
    except ValueError:
        return Problem(path, number, "extra", "must be a JSON object in a string")


def _with_extra(values: dict[str, Any]) -> dict[str, Any]:
    extra = values.pop("extra", None)
    unpacked = {} if extra is None else json.loads(extra) if isinstance(extra, str) else None
    if not isinstance(unpacked, dict):
        raise ValueError
    return {**unpacked, **values}


def _batches(pairs: Iterable[UGPair]) -> Iterator[list[UGPair]]:
    rest = iter(pairs)
    while rows := list(islice(rest, _ROWS)):
        yield rows
