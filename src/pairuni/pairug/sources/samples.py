"""Raw data in any format as samples, one at a time: rows of all inputs, checked field by field."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pairuni.io.images import ImageError
from pairuni.pairug.jsonl import Problem, validate
from pairuni.pairug.sources.answers import AnswerResolver
from pairuni.pairug.sources.chats import QUESTION_ROLES, REPLY_ROLES
from pairuni.pairug.sources.fields import Fields, common_columns, fields_of
from pairuni.pairug.sources.image_references import ImageFinder, ImageFolder
from pairuni.pairug.sources.inputs import Part, parts_of
from pairuni.pairug.sources.layouts import LEFT_OUT, LeftOut, images_of, plain_columns
from pairuni.pairug.sources.readers.rows import Row
from pairuni.placeholders import placeholder_fault
from pairuni.records import GenerationSample, UnderstandingSample

Sample = TypeVar("Sample", UnderstandingSample, GenerationSample)
Inputs = str | Path | Sequence[str | Path]

_FIELDS: dict[type, tuple[str, ...]] = {
    UnderstandingSample: ("id", "image_path", "question", "answer", "options", "tag"),
    GenerationSample: ("id", "image_path", "prompt", "tag"),
}


class SampleReader(Generic[Sample]):
    """Iterates once over the samples and problems of inputs, each [FORMAT:]PATH[?field=column&...], in order.

    Image paths can be opened as they are; images inside the data are written to ``image_folder``. A record without id
    gets one derived from its content, and without tag the name of its file; ``source`` says where it came from. Only
    ids are kept in memory.

    Once iterated: left_out, reason -> number of valid rows that are not used, such as detection in Orsta; not_kept,
    content -> number of rows from which it is dropped, such as system messages. Raises FileNotFoundError or ValueError
    at once if an input does not exist or has an unknown format.
    """

    def __init__(self, inputs: Inputs, kind: type[Sample], image_folder: Path | None = None) -> None:
        given = [inputs] if isinstance(inputs, str | Path) else inputs
        self.parts = [part for one in given for part in parts_of(str(one))]
        self.names = ", ".join(map(str, given))
        self.kind: type[Sample] = kind
        self.left_out: Counter[str] = Counter()
        self.not_kept: Counter[str] = Counter()
        self._embedded = None if image_folder is None else ImageFolder(image_folder)
        self._place_of: dict[str, str] = {}
        self._repeats: Counter[str] = Counter()

    def empty_message(self) -> str:
        """The error message for a set without samples."""
        corpus = "understanding" if self.kind is UnderstandingSample else "generation"
        rows = ", ".join(f"{count:,} with {reason}" for reason, count in self.left_out.items())
        left = f" ({rows} left out)" if rows else ""
        return f"{self.names}: the {corpus} set is empty{left}; it needs at least one sample"

    def __iter__(self) -> Iterator[Sample | Problem]:
        for part in self.parts:
            resolver = AnswerResolver(part.input.options.get("answers"), self._all_fields(part))
            for row in part.read():
                if isinstance(row, Problem):
                    yield row
                elif row.left_out:
                    self.left_out[row.left_out] += 1
                else:
                    try:
                        found = self._sample(part, row, resolver)
                    except LeftOut as reason:
                        self.left_out[str(reason)] += 1
                    else:
                        yield from found if isinstance(found, list) else [found]

    def _fields(self, part: Part, raw: Row) -> Fields | Problem:
        """Raises LeftOut."""
        columns = part.input.columns
        leave_out = part.input.options.get("leave_out", LEFT_OUT)
        row = plain_columns(raw, leave_out, asks=self.kind is UnderstandingSample, named=tuple(columns))
        return row if isinstance(row, Problem) else fields_of(row, raw, _FIELDS[self.kind], columns)

    def _all_fields(self, part: Part) -> Iterator[Fields]:
        """The fields of a part, which is read again for them."""
        for row in part.read():
            if isinstance(row, Row) and not row.left_out:
                with suppress(LeftOut):
                    fields = self._fields(part, row)
                    if isinstance(fields, Fields):
                        yield fields

    def _sample(self, part: Part, raw: Row, resolver: AnswerResolver) -> Sample | list[Problem]:
        """The sample of a row, or everything that is wrong with the row. Raises LeftOut."""
        fields = self._fields(part, raw)
        if isinstance(fields, Problem):
            return [fields]
        row, values = fields.row, fields.values
        # a column of this name is the field unless the user names another
        values.pop("image_paths", None)
        images = images_of(values.get("image_path"), asks=self.kind is UnderstandingSample)
        if fields.problems:
            return fields.problems
        self.not_kept.update(row.notes)
        self.not_kept.update(fields.lost)
        places: list[Path | Problem | None] = []
        if "image_path" in values:
            located = [self._located(part, row, image) for image in images]
            names, places = [name for name, _ in located], [place for _, place in located]
            if len(names) > 1:
                values["image_paths"] = names
            values["image_path"] = names[0]
        if values.get("id") is None:
            values["id"] = row.id if row.id is not None else self._derived_id(values)
        defaults = {"tag": row.tag, "source": _source(row)}
        present = {name: value for name, value in values.items() if value is not None or name not in defaults}
        values = {**defaults, **present}
        sample = validate(row.file, row.line, values, self.kind)
        if isinstance(sample, list):
            problems = [_explained(problem, row) for problem in sample]
            lost = [place for place in places if isinstance(place, Problem)]
            if lost and all(not problem.field.startswith("image_path") for problem in sample):
                problems.insert(0, lost[0])
            return problems
        return self._checked(sample, fields, places, resolver)

    def _located(self, part: Part, row: Row, image: Any) -> tuple[Any, Path | Problem | None]:
        """(the image as the row names it, its file or why there is none); no file for values of another type."""
        if not isinstance(image, bytes | dict | str) or image == "":
            return image, None
        try:
            place, written = ImageFinder(part.root, part.named, self._embedded).find(image)
        except ImageError as error:
            problem = row.problem("image_path", error.reason)
            return image if isinstance(image, str) else "an image inside", problem
        return place.name if written or isinstance(image, dict) else image, place

    def _checked(
        self,
        sample: Sample,
        fields: Fields,
        places: Sequence[Path | Problem | None],
        resolver: AnswerResolver,
    ) -> Sample | list[Problem]:
        """A valid sample with its image files and lettered options, or the problems with these or with its id."""
        row, problems = fields.row, []
        if fields.choices is not None:
            resolved = resolver.resolve(fields)
            if isinstance(resolved, str):
                problems.append(row.problem("options", resolved))
            else:
                sample = sample.model_copy(update=dict(zip(("question", "answer"), resolved, strict=True)))
        text = "question" if isinstance(sample, UnderstandingSample) else "prompt"
        if fault := placeholder_fault(getattr(sample, text)):
            problems.append(row.problem(text, fault))
        problems += [place for place in places if isinstance(place, Problem)]
        if first := self._place_of.get(sample.id):
            reason = f"{sample.id!r} is also that of {first}; ids must differ, and ?id= derives them from the content"
            problems.append(row.problem("id", reason))
        if problems:
            return problems
        self._place_of[sample.id] = f"line {row.line}" if len(self.parts) == 1 and row.line else _source(row)
        return sample.with_images([str(place) for place in places])

    def _derived_id(self, values: dict[str, Any]) -> str:
        """From the content, so that it does not depend on the order of rows; repeated rows are numbered."""
        content = repr(sorted((name, value) for name, value in values.items() if name != "id"))
        derived = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=8).hexdigest()
        self._repeats[derived] += 1
        return derived if self._repeats[derived] == 1 else f"{derived}-{self._repeats[derived]}"


def _source(row: Row) -> str:
    """Where a record came from: file, and line or member; independent of the machine."""
    where = row.member.removeprefix("member ") or str(row.line)
    return f"{row.file.name}:{where}"


def _explained(problem: Problem, row: Row) -> Problem:
    """The problem with a hint for the user."""
    reason = problem.reason
    if reason == "is missing" and problem.field:
        columns = ", ".join(map(str, row.values)) or "none"
        if empty := common_columns(problem.field, row.empty):
            reason += f"; column {empty[0]} is empty here"
        else:
            reason += f"; the columns are {columns}, and ?{problem.field}=COLUMN selects one"
            reason += _nested_hint(row, problem.field)
    elif reason.endswith("not None"):
        reason += ": the row has no value there"
    elif reason.startswith("must be a string, not [") and not reason.endswith("[]"):
        reason += f"; ?{problem.field}=COLUMN.0 selects the first"
    elif reason.startswith("must be a string, not {'"):
        reason += f"; ?{problem.field}=COLUMN.KEY selects a part"
    return replace(problem, reason=reason, member=row.member)


def _nested_hint(row: Row, field: str) -> str:
    """How to select a nested value whose name resembles the field: answers.0, texts.0.user."""
    roles = {"question": QUESTION_ROLES, "answer": REPLY_ROLES, "prompt": REPLY_ROLES}.get(field, ())
    for name, value in row.values.items():
        listed = isinstance(value, list) and bool(value)
        part, value = (f"{name}.0", value[0]) if listed else (str(name), value)
        keys = (
            [key for key in value if field in str(key) or str(key) in roles]
            if isinstance(value, dict)
            else []
        )
        if keys:
            return f", or a part of one: ?{field}={part}.{keys[0]}"
        if listed and not isinstance(value, dict | list) and field in name:
            return f", or a part of one: ?{field}={part}"
    return ""
