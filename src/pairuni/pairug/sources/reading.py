"""Raw data of any form as records, one at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pairuni.io.images import ImageError
from pairuni.pairug.jsonl import Problem, raise_first, validate
from pairuni.pairug.sources.chats import QUESTIONS, REPLIES
from pairuni.pairug.sources.columns import common_columns
from pairuni.pairug.sources.images import Finder, ImageFolder
from pairuni.pairug.sources.inputs import Part, parts_of
from pairuni.pairug.sources.right_options import RightOptions
from pairuni.pairug.sources.rows import Row
from pairuni.pairug.sources.shapes import LEFT_OUT, LeftOut, only_image, reshaped
from pairuni.pairug.sources.texts import Texts, placeholder_problems, texts_of
from pairuni.records import GenerationSample, UnderstandingSample

Sample = TypeVar("Sample", UnderstandingSample, GenerationSample)
Given = str | Path | Sequence[str | Path]

_FIELDS: dict[type, tuple[str, ...]] = {
    UnderstandingSample: ("id", "image_path", "question", "answer", "options", "tag"),
    GenerationSample: ("id", "image_path", "prompt", "tag"),
}


def read_understanding(inputs: Given, pictures: Path | None = None) -> list[UnderstandingSample]:
    """The understanding set U of one or several inputs, each [FORMAT:]PATH[?field=column&...].

    Samples carry image paths ready to open; images that come inside a file are written to ``images``.
    A record without id gets one derived from its content, without tag its file's name; ``source`` says where
    it came from. Raises FileNotFoundError, or ValueError naming file, line or member, field and reason of the
    first problem and how many more there are; an empty set is one.
    """
    return _all(Reading(inputs, UnderstandingSample, pictures))


def read_generation(inputs: Given, pictures: Path | None = None) -> list[GenerationSample]:
    """The generation set G: image and prompt. Else as above."""
    return _all(Reading(inputs, GenerationSample, pictures))


def _all(reading: Reading[Sample]) -> list[Sample]:
    samples: list[Sample] = []
    problems: list[Problem] = []
    for found in reading:
        if isinstance(found, Problem):
            problems.append(found)
        else:
            samples.append(found)
    raise_first(problems)
    if not samples:
        raise ValueError(reading.emptiness())
    return samples


class Reading(Generic[Sample]):
    """Iterates once over the samples and problems of inputs, in order; ids alone are kept in memory.

    left_out: reason -> rows that are in order and not used, such as Orsta's detection, once iterated. not_kept: what of
    rows that are used is not kept -> rows, such as system messages.
    Raises FileNotFoundError or ValueError at once when an input does not exist or has no known form.
    """

    def __init__(self, inputs: Given, kind: type[Sample], pictures: Path | None = None) -> None:
        given = [inputs] if isinstance(inputs, str | Path) else inputs
        self.parts = [part for one in given for part in parts_of(str(one))]
        self.names = ", ".join(map(str, given))
        self.kind: type[Sample] = kind
        self.pictures = None if pictures is None else ImageFolder(pictures)
        self.left_out: Counter[str] = Counter()
        self.not_kept: Counter[str] = Counter()
        self._place_of: dict[str, str] = {}
        self._repeats: Counter[str] = Counter()

    def emptiness(self) -> str:
        """The sentence for a set without samples."""
        corpus = "understanding" if self.kind is UnderstandingSample else "generation"
        rows = ", ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items())
        left = f" ({rows} left out)" if rows else ""
        return f"{self.names}: the {corpus} set is empty{left}; it needs at least one sample"

    def __iter__(self) -> Iterator[Sample | Problem]:
        for part in self.parts:
            self._right = RightOptions(part.input.options.get("answers"), self._again(part))
            for row in part.read():
                if isinstance(row, Problem):
                    yield row
                    continue
                if row.left_out:
                    self.left_out[row.left_out] += 1
                    continue
                try:
                    yield from self._samples(part, row)
                except LeftOut as reason:
                    self.left_out[str(reason)] += 1

    def _texts(self, part: Part, raw: Row) -> Texts | Problem:
        """Raises LeftOut."""
        columns = part.input.columns
        leave_out = part.input.options.get("leave_out", LEFT_OUT)
        row = reshaped(raw, leave_out, asks=self.kind is UnderstandingSample, named=tuple(columns))
        return row if isinstance(row, Problem) else texts_of(row, raw, _FIELDS[self.kind], columns)

    def _again(self, part: Part) -> Iterator[Texts]:
        """The texts of a part, read anew."""
        for row in part.read():
            if isinstance(row, Row) and not row.left_out:
                with suppress(LeftOut):
                    texts = self._texts(part, row)
                    if isinstance(texts, Texts):
                        yield texts

    def _samples(self, part: Part, raw: Row) -> Iterator[Sample | Problem]:
        """One sample, or everything that is wrong with the row. Raises LeftOut."""
        texts = self._texts(part, raw)
        if isinstance(texts, Problem):
            yield texts
            return
        row, values = texts.row, texts.values
        image = only_image(values.get("image_path"))
        if texts.problems:
            yield from texts.problems
            return
        for what in row.notes + tuple(texts.lost):
            self.not_kept[what] += 1
        place: Path | Problem | None = None
        if isinstance(image, bytes | dict) or (isinstance(image, str) and image):
            try:
                place, written = Finder(part.root, part.named, self.pictures).find(image)
                if written or isinstance(image, dict):
                    image = place.name
            except ImageError as error:
                place = row.problem("image_path", error.reason)
                image = image if isinstance(image, str) else "an image inside"
        if "image_path" in values:
            values["image_path"] = image
        yield from self._checked(texts, place)

    def _checked(self, texts: Texts, place: Path | Problem | None) -> Iterator[Sample | Problem]:
        """place: of the image, or why there is none; None where the row says nothing of one."""
        row, values = texts.row, texts.values
        if values.get("id") is None:
            values["id"] = row.id if row.id is not None else self._derived_id(values)
        values = {"tag": row.tag, "source": _source(row), **_asked(values)}
        sample = validate(row.file, row.line, values, self.kind)
        if isinstance(sample, list):
            if isinstance(place, Problem) and all(problem.field != "image_path" for problem in sample):
                yield place
            yield from (_explained(problem, row) for problem in sample)
            return
        problems = []
        if texts.choices is not None:
            listed = self._right.asked(texts)
            if isinstance(listed, str):
                problems.append(row.problem("options", listed))
            else:
                sample = sample.model_copy(update=dict(zip(("question", "answer"), listed, strict=True)))
        problems += placeholder_problems(row, sample)
        if isinstance(place, Problem):
            problems.append(place)
        if sample.id in self._place_of:
            first = self._place_of[sample.id]
            reason = f"{sample.id!r} is also that of {first}; ids must differ, and ?id= makes them from the content"
            problems.append(row.problem("id", reason))
        if problems:
            yield from problems
            return
        self._place_of[sample.id] = f"line {row.line}" if len(self.parts) == 1 and row.line else _source(row)
        yield sample.model_copy(update={"image_path": str(place)})

    def _derived_id(self, values: dict[str, Any]) -> str:
        """From the content, so that it outlives reordering; a row that repeats another is numbered."""
        content = {name: value for name, value in values.items() if name != "id"}
        derived = hashlib.blake2b(
            repr(sorted(content.items())).encode("utf-8", "replace"), digest_size=8
        ).hexdigest()
        self._repeats[derived] += 1
        return derived if self._repeats[derived] == 1 else f"{derived}-{self._repeats[derived]}"


def _explained(problem: Problem, row: Row) -> Problem:
    reason = problem.reason
    if reason == "is missing" and problem.field:
        columns = ", ".join(map(str, row.values)) or "none"
        empty = common_columns(problem.field, row.empty)
        reason += (
            f"; column {empty[0]} is empty here"
            if empty
            else f"; the columns are {columns}, and ?{problem.field}=COLUMN names the one to take"
            f"{_inside(row, problem.field)}"
        )
    elif reason.endswith("not None"):
        reason += ": the row has no value there"
    elif reason.startswith("must be a string, not [") and not reason.endswith("[]"):
        reason += f"; ?{problem.field}=COLUMN.0 takes the first"
    elif reason.startswith("must be a string, not {'"):
        reason += f"; ?{problem.field}=COLUMN.KEY takes a part"
    return replace(problem, reason=reason, member=row.member)


def _inside(row: Row, field: str) -> str:
    """How to name what a column holds that sounds like the field: answers.0, texts.0.user."""
    for name, value in row.values.items():
        listed = isinstance(value, list) and bool(value)
        part, value = (f"{name}.0", value[0]) if listed else (str(name), value)
        keys = [key for key in value if _sounds_like(str(key), field)] if isinstance(value, dict) else []
        if keys:
            return f", or a part of one: ?{field}={part}.{keys[0]}"
        if listed and not isinstance(value, dict | list) and field in name:
            return f", or a part of one: ?{field}={part}"
    return ""


def _sounds_like(key: str, field: str) -> bool:
    roles = {"question": QUESTIONS, "answer": REPLIES, "prompt": REPLIES}
    return field in key or key in roles.get(field, ())


def _asked(values: dict[str, Any]) -> dict[str, Any]:
    """Without fields that are None, which count as missing, except where a record must have them."""
    return {
        name: value for name, value in values.items() if value is not None or name not in ("tag", "source")
    }


def _source(row: Row) -> str:
    """File, and line or member: where a record came from, the same on every machine."""
    where = row.member.removeprefix("member ") or str(row.line)
    return f"{row.file.name}:{where}"
