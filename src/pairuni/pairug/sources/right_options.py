"""Which option the answers of a file name, where a row alone leaves it open."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pairuni.pairug.sources.answers import lists_options, none_of, readings_of, several, with_options
from pairuni.pairug.sources.texts import Texts

_ROWS = 5000
"""Of a file that are read for what its numbers mean."""


class RightOptions:
    """The right option of each row of one file.

    A number among options that are numbers could be one of them or its place. In a file where every answer is the text
    of an option, and some cannot be places from 0 nor from 1, numbers are texts; nothing else is inferred. told: the
    reading that the user names. rows: reads the file's texts anew.
    """

    def __init__(self, told: str | None, rows: Iterator[Texts]) -> None:
        self.told = told
        self._rows = rows
        self._texts: bool | None = None

    def asked(self, texts: Texts) -> tuple[str, str] | str:
        """Question with lettered options and the right letter, or why there are none."""
        choices = texts.choices
        assert choices is not None
        question, answer = texts.values["question"], texts.values["answer"]
        readings = readings_of(texts.answer, choices, typed=texts.row.typed, told=self.told)
        if len(set(readings.values())) > 1 and _is_number(readings) and self._numbers_are_texts():
            readings = {"text": readings["text"]}
        if len(set(readings.values())) > 1:
            return several(texts.answer, choices, readings)
        if readings:
            return with_options(question, answer, choices, next(iter(readings.values())))
        if lists_options(question) and self.told is None:
            return question, answer
        return none_of(texts.answer, choices, self.told)

    def _numbers_are_texts(self) -> bool:
        if self._texts is None:
            possible = {"text", "index0", "index1"}
            for texts in islice(self._rows, _ROWS):
                if texts.choices is not None and texts.answer is not None:
                    possible &= readings_of(texts.answer, texts.choices, typed=texts.row.typed).keys()
            self._texts = possible == {"text"}
        return self._texts


def _is_number(readings: dict[str, int]) -> bool:
    return "text" in readings and "letter" not in readings
