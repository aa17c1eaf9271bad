"""Reads, checks and writes PairUG files: the paper's JSONL, or parquet, by suffix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pairuni.io.files import atomic_write
from pairuni.io.images import ImageError, Trait, decode
from pairuni.io.paths import path_fault, written_name_fault
from pairuni.pairug.dataset.images import image_fault
from pairuni.pairug.dataset.parquet import SIDES, Images, count_fault, is_embedded, iter_rows, write_rows
from pairuni.pairug.jsonl import Problem, dump, dump_line, iter_objects, raise_first, validate
from pairuni.placeholders import placeholder_fault
from pairuni.records import Quadruple, UGPair

PAIRS = "pairs.jsonl"
QUADRUPLES = "quadruples.jsonl"
"""All completed samples of a build, next to its pairs."""

R = TypeVar("R", UGPair, Quadruple)

Fault = Callable[[str], str | None]
"""Returns the problem of an image path, or None."""


def check_pair_file(path: Path) -> None:
    """Whether pairs can be trained on or shown: the file exists, and its images are files next to it.

    Raises FileNotFoundError, and ValueError for a parquet file that contains the images.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such pair file; `pairuni pairs build` makes one")
    if _is_parquet(path) and is_embedded(path):
        raise ValueError(
            f"{path} contains its images, but they are needed as files next to it; write them out first: "
            f"pairuni pairs convert {path} FOLDER/{PAIRS}"
        )


def read_pairs(path: str | Path) -> list[UGPair]:
    """All pairs of a .jsonl or .parquet file.

    Raises FileNotFoundError, or ValueError with file, line (row), field and reason of the first problem and the
    number of further ones. An image path that is absolute or leaves the file's folder is a problem; whether the
    images can be decoded is checked by ``iter_problems``.
    """
    path = Path(path)
    pairs = _collect(path, ((number, found) for number, found, _ in _iter_pairs(path)))
    if not pairs:
        raise ValueError(f"{path} contains no pairs")
    return pairs


def read_quadruples(path: str | Path) -> list[Quadruple]:
    """All completed samples of a build. Raises as ``read_pairs`` does."""
    path = Path(path)
    return _collect(
        path, ((number, _parse(path, number, row, Quadruple)) for number, row in iter_objects(path))
    )


def iter_problems(path: Path, traits: Counter[Trait] | None = None) -> Iterator[Problem]:
    """All problems of a pair file: bad lines and fields; image placeholders or special tokens in questions and
    prompts; images, next to the file or embedded, that cannot be decoded.

    traits: counter to which the traits of each distinct image are added.
    Raises FileNotFoundError, and ValueError when a parquet file cannot be read at all.
    """
    faults: dict[str, str | None] = {}
    counts = Counter[Trait]() if traits is None else traits
    seen: set[str] = set()

    def fault_once(image_path: str) -> str | None:
        if image_path not in faults:
            faults[image_path] = image_fault(path.parent, image_path, counts)
        return faults[image_path]

    number = 0
    for number, found, images in _iter_pairs(path, with_images=True):
        if isinstance(found, list):
            yield from found
            continue
        yield from _text_problems(path, number, found)
        if images:
            yield from _embedded_problems(path, number, found, images, counts, seen)
        else:
            yield from _image_problems(path, number, found, fault_once)
    if not number:
        yield Problem(path, 0, "", "contains no pairs")


def write_pairs(path: str | Path, pairs: Iterable[UGPair], *, embed: str | Path | None = None) -> None:
    """Write pairs as .jsonl or .parquet, by suffix, atomically: an older file stays until the new one is complete.

    path: the file, next to which or below which its images are. embed: folder that image paths are relative to; the
    images are then embedded in the parquet file.

    Raises ValueError, naming the pair, for no pairs at all, values that a reader would refuse, image paths that are
    not relative to the file's folder and inside it or are not the name of an image, images to embed that do not
    decode, and further keys that JSON cannot hold.
    """
    path, embed = Path(path), None if embed is None else Path(embed)
    if embed is not None and not _is_parquet(path):
        raise ValueError(f"{path}: only .parquet files can embed images")
    checked = _checked(path, pairs, path.parent if embed is None else embed)
    with atomic_write(path) as partial_file:
        if _is_parquet(path):
            write_rows(partial_file, checked, embed)
        else:
            with partial_file.open("w", encoding="utf-8") as file:
                file.writelines(dump_line(pair) for pair in checked)


def written_path_fault(folder: Path, image_path: str) -> str | None:
    """The problem of an image path for writing in ``folder``, or None."""
    return path_fault(folder, image_path) or written_name_fault(image_path)


def image_fields(record: UGPair | Quadruple) -> Iterator[tuple[str, str]]:
    """Field and path of each image of a record, such as ("understand_ann.image_paths.1", "b.png")."""
    if isinstance(record, Quadruple):
        yield from record.image_fields
        return
    for side in SIDES:
        for field, image_path in getattr(record, side).image_fields:
            yield f"{side}.{field}", image_path


def _collect(path: Path, rows: Iterable[tuple[int, R | list[Problem]]]) -> list[R]:
    records: list[R] = []
    problems: list[Problem] = []
    for number, found in rows:
        if isinstance(found, list):
            problems += found
        else:
            problems += _image_problems(path, number, found, partial(path_fault, path.parent))
            records.append(found)
    raise_first(problems)
    return records


def _iter_pairs(
    path: Path, *, with_images: bool = False
) -> Iterator[tuple[int, UGPair | list[Problem], Images]]:
    rows: Iterable[tuple[int, dict[str, Any] | Problem, Images]]
    if _is_parquet(path):
        rows = iter_rows(path, with_images=with_images)
    else:
        rows = ((number, row, {}) for number, row in iter_objects(path))
    first = True
    for number, row, images in rows:
        if first and isinstance(row, dict):
            _check_kind(path, row)
        first = False
        yield number, _parse(path, number, row, UGPair), images


def _check_kind(path: Path, row: dict[str, Any]) -> None:
    """Raise ValueError if the first line is a sample, so that not every line is reported."""
    if row.keys() & {"image_path", "image_paths", "image"} and not row.keys() & set(UGPair.model_fields):
        raise ValueError(
            f"{path} holds samples, not pairs: its first line has the keys {', '.join(list(row)[:6])}; "
            "`pairuni pairs build` makes pairs of them"
        )


def _parse(path: Path, number: int, row: dict[str, Any] | Problem, kind: type[R]) -> R | list[Problem]:
    return [row] if isinstance(row, Problem) else validate(path, number, row, kind)


def _checked(path: Path, pairs: Iterable[UGPair], folder: Path) -> Iterator[UGPair]:
    number = 0
    for number, pair in enumerate(pairs, start=1):
        values = pair.model_dump()
        found = validate(path, number, values, UGPair)
        if not isinstance(found, list):
            found = _image_problems(path, number, found, partial(written_path_fault, folder))
        if found:
            raise ValueError(f"{path} was not written: pair {number}, {found[0].field}: {found[0].reason}")
        try:
            dump(values)
        except ValueError as error:
            raise ValueError(f"{path} was not written: pair {number}: {error}") from None
        yield pair
    if not number:
        raise ValueError(f"{path} was not written: there are no pairs")


def _text_problems(path: Path, number: int, pair: UGPair) -> Iterator[Problem]:
    """Image placeholders and special tokens in the question and the prompt that training uses."""
    used = {
        "generate_ann.prompt": pair.generate_ann.prompt,
        "understand_ann.question": pair.understand_ann.question,
    }
    for field, text in used.items():
        if (fault := placeholder_fault(text)) is not None:
            yield Problem(path, number, field, fault)


def _image_problems(path: Path, number: int, record: UGPair | Quadruple, fault_of: Fault) -> list[Problem]:
    return [
        Problem(path, number, field, f"{image_path!r} {fault}")
        for field, image_path in image_fields(record)
        if (fault := fault_of(image_path)) is not None
    ]


def _embedded_problems(
    path: Path, number: int, pair: UGPair, images: Images, traits: Counter[Trait], seen: set[str]
) -> Iterator[Problem]:
    yield from _image_problems(path, number, pair, partial(path_fault, path.parent))
    for side, several in images.items():
        paths = getattr(pair, side).image_paths
        if len(several) != len(paths):
            yield Problem(path, number, f"{side}.images", count_fault(several, paths))
            continue
        for place, (image_path, data) in enumerate(zip(paths, several, strict=True)):
            try:
                found = decode(data or b"").traits
            except ImageError as error:
                field = f"images.{place}" if len(paths) > 1 else "image"
                yield Problem(path, number, f"{side}.{field}", error.reason)
                continue
            if image_path not in seen:
                seen.add(image_path)
                traits.update(found)


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: a pair file ends in .jsonl or .parquet")
    return path.suffix == ".parquet"
