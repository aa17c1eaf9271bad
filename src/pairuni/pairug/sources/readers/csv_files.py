"""CSV and TSV as rows. A quote that is never closed spoils its own line, not the rows that follow.

Python's ``csv`` reads from an open quote to the next quote, through all rows in between. Here a record remembers the
lines that it was read from: if it does not match the header, only its first line is refused, and reading resumes at
the second.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from pairuni.console.counts import counted
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.readers.rows import Row, Rows

_LONGEST = 1 << 26
"""Maximum characters of one record."""
_INSIDE = re.compile(r'[^"]*(?:""[^"]*)*')
_DELIMITERS = ",\t;|"
_SEP = re.compile(r'"?sep=([,;|\t])"?\r?\n?', re.I)
_UNCLOSED = "a quote is opened and not closed"
_FILE_NAME = re.compile(r".*\.[A-Za-z][A-Za-z0-9]{1,4}")


def csv_rows(path: Path) -> Rows:
    """Rows of a CSV or TSV file with a header line; empty cells are missing values, empty rows are skipped.

    The suffix determines the delimiter unless the header does not contain it. A quoted text may span several lines. In
    TSV a quote that is not closed correctly is an ordinary character, because most TSV files have no quoting; in CSV
    its line is a problem.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file, "\t" if path.suffix.lower() in (".tsv", ".tab") else ",")
        lines.find_delimiter()
        first = next(lines.records(None), None)
        if first is None:
            return
        first.cells = [name.strip() for name in first.cells]
        if fault := _header_fault(first):
            yield Problem(path, first.line, "", fault)
            return
        for record in lines.records(first.cells):
            if record.fault or any(record.cells):
                yield _row(path, first.cells, record)


@dataclass
class _Record:
    """line: where the record begins. fault: why its cells cannot be read."""

    line: int
    cells: list[str]
    fault: str = ""


@dataclass
class _Lines:
    """Lines of a file as records. back: lines that were put back, to be read again."""

    file: TextIO
    delimiter: str
    number: int = 0
    back: deque[str] = field(default_factory=deque)

    def find_delimiter(self) -> None:
        """Choose another delimiter if the first line lacks the usual one or names it, as Excel does: sep=;"""
        while (text := self._next()) is not None:
            if found := _SEP.fullmatch(text):
                self.delimiter = found[1]
                return
            if text.strip("\r\n"):
                other = max(_DELIMITERS, key=text.count)
                if self.delimiter not in text and other in text:
                    self.delimiter = other
                self.back.append(text)
                self.number -= 1
                return

    def records(self, header: Sequence[str] | None) -> Iterator[_Record]:
        """Records that are not empty. header: tells real records from those that an open quote merged."""
        while (text := self._next()) is not None:
            begun = self.number
            if len(text) > _LONGEST:
                yield _Record(begun, [], f"is longer than {_LONGEST:,} characters; the rest is not read")
                return
            if not text.strip("\r\n"):
                continue
            parse = _Parse(self.delimiter)
            used, size = [text], len(text)
            parse.read(text)
            while parse.is_open and not parse.fault:
                if header is not None and len(parse.cells) > len(header):
                    break
                more = self._next() if size <= _LONGEST else None
                if more is None:
                    break
                used.append(more)
                size += len(more)
                parse.read(more)
            yield self._judged(begun, used, parse, header)

    def _judged(self, line: int, used: list[str], parse: _Parse, header: Sequence[str] | None) -> _Record:
        """The record; if an open quote merged several, only the first line of it, and the others are read again."""
        fault = parse.fault or (_UNCLOSED if parse.is_open else "")
        narrow = header is not None and len(parse.cells) != len(header)
        if not fault and len(used) > 1 and header is not None:
            fault = _UNCLOSED if narrow or self._merges_rows(used, parse.cells, header) else ""
        plain = used[0].rstrip("\r\n").split(self.delimiter)
        literal = self.delimiter == "\t" and (header is None or len(plain) == len(header))
        if not fault and not (narrow and literal):
            return _Record(line, parse.cells)
        self.back.extendleft(reversed(used[1:]))
        self.number -= len(used) - 1
        return _Record(line, plain) if literal else _Record(line, [], fault)

    def _merges_rows(self, used: list[str], cells: Sequence[str], header: Sequence[str]) -> bool:
        """Whether lines inside a quoted text are separate rows: as wide as the header, with cells of the same kind.

        With tabs the width is enough. A text may contain as many commas, so there a cell must also be a file name or
        a number where the record has one.
        """
        for line in used[1:]:
            inner = line.rstrip("\r\n").split(self.delimiter)
            if len(inner) == len(header):
                if self.delimiter == "\t":
                    return True
                if any(_same_kind(one, other) for one, other in zip(inner, cells, strict=True)):
                    return True
        return False

    def _next(self) -> str | None:
        text = self.back.popleft() if self.back else self.file.readline(_LONGEST + 1)
        self.number += bool(text)
        return text or None


@dataclass
class _Parse:
    """Splits a record into cells, line by line. is_open: the last cell has a quote that is not closed yet."""

    delimiter: str
    cells: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    is_open: bool = False
    fault: str = ""

    def read(self, line: str) -> None:
        at = self._quoted(line, 0) if self.is_open else self._cell(line, 0)
        while at is not None:
            at = self._cell(line, at)

    def _cell(self, line: str, at: int) -> int | None:
        """Read one cell and return where the next one begins, None at the end of the line."""
        if line.startswith('"', at):
            self.is_open, self.parts = True, []
            return self._quoted(line, at + 1)
        end = line.find(self.delimiter, at)
        self.cells.append(line[at : end if end >= 0 else None].rstrip("\r\n" if end < 0 else ""))
        return end + 1 if end >= 0 else None

    def _quoted(self, line: str, at: int) -> int | None:
        match = _INSIDE.match(line, at)
        assert match is not None  # it also matches nothing
        self.parts.append(match[0])
        if match.end() == len(line):
            return None
        self.is_open = False
        self.cells.append("".join(self.parts).replace('""', '"'))
        rest = line[match.end() + 1 : match.end() + 2]
        if rest == self.delimiter:
            return match.end() + 2
        if rest.strip("\r\n"):
            self.fault = f"a quoted text ends before {rest!r}; quotes inside one are doubled"
        return None


def _header_fault(first: _Record) -> str:
    if first.fault:
        return f"the header cannot be read: {first.fault}"
    if not _is_text("".join(first.cells)):
        return "the header is not UTF-8 text; save the file as UTF-8"
    repeated = [name for name, count in Counter(first.cells).items() if count > 1]
    return f"has several columns called {repeated[0]!r}; each needs its own name" if repeated else ""


def _row(path: Path, header: Sequence[str], record: _Record) -> Row | Problem:
    if record.fault:
        return Problem(path, record.line, "", record.fault)
    if len(record.cells) != len(header):
        reason = f"has {counted(len(record.cells), 'cell')}, but the header has {len(header)}"
        return Problem(path, record.line, "", reason)
    cells = dict(zip(header, record.cells, strict=True))
    for name, cell in cells.items():
        if not _is_text(cell):
            return Problem(path, record.line, name, "is not UTF-8 text")
    values = {name: cell for name, cell in cells.items() if cell}
    empty = tuple(name for name, cell in cells.items() if not cell)
    return Row(path, values, record.line, tag=path.stem, typed=False, empty=empty)


def _same_kind(one: str, other: str) -> bool:
    """Whether both are file names with the same suffix, or both integers."""
    if one.isdecimal() and other.isdecimal():
        return True
    files = _FILE_NAME.fullmatch(one), _FILE_NAME.fullmatch(other)
    return None not in files and one.rpartition(".")[2].lower() == other.rpartition(".")[2].lower()


def _is_text(cell: str) -> bool:
    """False for bytes that are not UTF-8, and for the NUL bytes of UTF-16 without a byte order mark."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in cell
