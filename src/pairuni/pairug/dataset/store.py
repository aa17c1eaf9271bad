"""PairUG on disk: the paper's JSONL and the same pairs as parquet, by suffix; checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pairuni.io.files import atomic_write
from pairuni.io.images import ImageError, Trait, decode
from pairuni.io.paths import path_fault, written_name_fault
from pairuni.pairug.dataset.images import image_fault
from pairuni.pairug.dataset.parquet import SIDES, Images, iter_rows, write_rows
from pairuni.pairug.jsonl import Problem, dump, dump_line, iter_objects, raise_first, validate
from pairuni.placeholders import placeholder_fault
from pairuni.records import Quadruple, UGPair

PAIRS = "pairs.jsonl"
QUADRUPLES = "quadruples.jsonl"
"""All completed samples of a build, next to its pairs."""


def read_pairs(path: Path) -> list[UGPair]:
    """All pairs of a .jsonl or .parquet file.

    Raises FileNotFoundError, or ValueError naming file, line (row), field and reason of the first problem and
    how many more there are. An image path that is absolute or leaves the file's folder is a problem; whether
    the images open is ``iter_problems``'s question.
    """
    pairs: list[UGPair] = []
    problems: list[Problem] = []
    for number, found, _ in _iter_pairs(path):
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


def iter_problems(path: Path, traits: Counter[Trait] | None = None) -> Iterator[Problem]:
    """Everything that is wrong with a pair file: its lines, its fields, questions and prompts that hold marks of
    images or special tokens, and images that do not open whole, whether they lie beside it or inside.

    traits: where it is counted how many distinct images lose something as RGB.
    Raises FileNotFoundError when it is missing and ValueError when a parquet file cannot be read at all.
    """
    faults: dict[str, str | None] = {}
    counts = Counter[Trait]() if traits is None else traits
    seen: set[str] = set()

    def fault_once(folder: Path, image_path: str) -> str | None:
        if image_path not in faults:
            faults[image_path] = image_fault(folder, image_path, counts)
        return faults[image_path]

    number = 0
    for number, found, pictures in _iter_pairs(path, pictures=True):
        if isinstance(found, list):
            yield from found
            continue
        yield from _text_problems(path, number, found)
        if pictures:
            yield from _embedded_problems(path, number, found, pictures, counts, seen)
        else:
            yield from _image_problems(path, number, found, fault_once)
    if not number:
        yield Problem(path, 0, "", "holds no pairs")


def _text_problems(path: Path, number: int, pair: UGPair) -> Iterator[Problem]:
    """Marks of images and special tokens in the question and the prompt that a run uses."""
    used = (
        ("generate_ann.prompt", pair.generate_ann.prompt),
        ("understand_ann.question", pair.understand_ann.question),
    )
    for field, text in used:
        if (fault := placeholder_fault(text)) is not None:
            yield Problem(path, number, field, fault)


def write_pairs(path: Path, pairs: Iterable[UGPair], *, embed: Path | None = None) -> None:
    """Write pairs as .jsonl or .parquet, by the suffix; an older file stays until the new one is whole.

    embed: folder that image paths are relative to; the images then go into the parquet file.
    Strict: raises ValueError, naming the pair, for no pairs at all, values that a reader would refuse, image
    paths that are not relative to the file's folder and inside it or are no image's name, images to embed that
    do not decode, and extras that JSON cannot hold.
    """
    checked = _checked(path, pairs, path.parent if embed is None else embed)
    if _is_parquet(path):
        with atomic_write(path) as aside:
            write_rows(aside, checked, embed)
    else:
        assert embed is None, "JSON Lines hold no images"
        with atomic_write(path) as aside, aside.open("w", encoding="utf-8") as file:
            file.writelines(dump_line(pair) for pair in checked)


def _checked(path: Path, pairs: Iterable[UGPair], folder: Path) -> Iterator[UGPair]:
    number = 0
    for number, pair in enumerate(pairs, start=1):
        values = pair.model_dump()
        found = validate(path, number, values, UGPair)
        problems = (
            found if isinstance(found, list) else _image_problems(path, number, found, _written_fault, folder)
        )
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


def _written_fault(folder: Path, image_path: str) -> str | None:
    return path_fault(folder, image_path) or written_name_fault(image_path)


def _image_problems(
    path: Path, number: int, pair: UGPair, fault_of: Any, folder: Path | None = None
) -> list[Problem]:
    """folder: that image paths are relative to, the file's own unless it is said."""
    problems = []
    for side in SIDES:
        image_path = getattr(pair, side).image_path
        fault = fault_of(folder or path.parent, image_path)
        if fault is not None:
            problems.append(Problem(path, number, f"{side}.image_path", f"{image_path!r} {fault}"))
    return problems


def _embedded_problems(
    path: Path, number: int, pair: UGPair, pictures: Images, traits: Counter[Trait], seen: set[str]
) -> Iterator[Problem]:
    yield from _image_problems(path, number, pair, path_fault)
    for side, data in pictures.items():
        try:
            found = decode(data or b"").traits
        except ImageError as error:
            yield Problem(path, number, f"{side}.image", error.reason)
            continue
        image_path = getattr(pair, side).image_path
        if image_path not in seen:
            seen.add(image_path)
            traits.update(found)


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: a pair file ends in .jsonl or .parquet")
    return path.suffix == ".parquet"


def _iter_pairs(
    path: Path, *, pictures: bool = False
) -> Iterator[tuple[int, UGPair | list[Problem], Images]]:
    held: Images = {}
    if _is_parquet(path):
        rows = iter_rows(path, pictures=pictures)
    else:
        rows = ((number, values, held) for number, values in iter_objects(path))
    for number, values, held in rows:
        found = [values] if isinstance(values, Problem) else validate(path, number, values, UGPair)
        yield number, found, held
