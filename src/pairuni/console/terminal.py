"""Safe terminal output: control characters in file names, replies and errors never reach the terminal.

Wraps stdout and stderr for the duration of a command, so that click's errors, warnings, tracebacks and the output of
libraries are covered too. Two writers may use control characters: rich, through ``pairuni.console.rich_output``,
and tqdm.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BAR = re.compile("(\r|\x1b\\[A)")


def visible(text: str, *, one_line: bool = False) -> str:
    r"""``text`` with every character that controls a terminal as \xNN or \uNNNN; tabs and line ends stay.

    These are control characters, bidirectional marks, line separators and lone surrogates. Beyond \x1f the form is
    \uNNNN, so that JSON keeps its meaning. one_line: line ends are escaped too.
    """
    if one_line:
        text = text.replace("\n", "\\n")
    return text if text.isprintable() else _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"


class VisibleStream:
    """A text stream that writes ``visible`` text, and escapes characters that its encoding lacks.

    It has no ``buffer``, because bytes would bypass it.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        write_plainly(self.raw, _around_bars(text) if _is_by_tqdm(sys._getframe().f_back) else visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "raw"):
            raise AttributeError(name)
        return getattr(self.raw, name)


def _is_by_tqdm(frame: Any) -> bool:
    return frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "tqdm"


def _around_bars(text: str) -> str:
    """Cursor moves of tqdm's bars stay; control characters in their descriptions are escaped."""
    return "".join(part if place % 2 else visible(part) for place, part in enumerate(_BAR.split(text)))


def write_plainly(stream: TextIO, text: str) -> None:
    """Write ``text`` unchanged, except that characters that the stream's encoding lacks are escaped."""
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


@contextmanager
def visible_streams() -> Iterator[None]:
    """stdout and stderr are ``VisibleStream`` within the block."""
    before = sys.stdout, sys.stderr
    make_visible()
    after = sys.stdout, sys.stderr
    try:
        yield
    finally:
        # keep a stream that a test or a progress bar has installed in the meantime
        if sys.stdout is after[0]:
            sys.stdout = before[0]
        if sys.stderr is after[1]:
            sys.stderr = before[1]


def make_visible() -> None:
    """Wrap stdout and stderr in ``VisibleStream`` from now on."""
    if sys.stdout is not None and not isinstance(sys.stdout, VisibleStream):
        sys.stdout = cast(TextIO, VisibleStream(sys.stdout))
    if sys.stderr is not None and not isinstance(sys.stderr, VisibleStream):
        sys.stderr = cast(TextIO, VisibleStream(sys.stderr))


def print_reply(text: str) -> None:
    """Print a line of data: unchanged to a file or pipe, ``visible`` on a terminal."""
    stream = sys.stdout if sys.stdout.isatty() else underlying(sys.stdout)
    write_plainly(stream, text + "\n")
    stream.flush()


def underlying(stream: TextIO) -> TextIO:
    """The stream below ``VisibleStream`` and below rich's proxy during a progress bar."""
    while isinstance(stream, VisibleStream) or hasattr(stream, "rich_proxied_file"):
        stream = stream.raw if isinstance(stream, VisibleStream) else stream.rich_proxied_file
    return stream
