"""The part of a reply that answers, without reasoning, tags, boxes and LaTeX commands for text."""

from __future__ import annotations

import re

from pairuni.chat.reasoning import without_reasoning
from pairuni.rewards.answers.tokens import fold

_TAG = re.compile(r"<(?P<close>/?)\s?(?:answer|final_answer|conclusion)\s?>", re.I)
_BEGIN_OF_BOX = re.compile(r"<\|begin_of_box\|>(?P<content>.*?)(?:<\|end_of_box\|>|$)", re.S)
_BRACE = re.compile(r"\\f?box(?:ed)?\s*+\{|[{}]")
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|emph|bm|boldsymbol|operatorname\*?)"
    r"\s*+\{([^{}]*)\}"
)
_LATEX = (
    # brackets that fit their content, and display style
    (re.compile(r"\\(?:left|right|bigl|bigr|displaystyle)(?![a-zA-Z])"), ""),
    # degrees: ^{\circ}, ^\circ, \degree
    (re.compile(r"\^\s*+(?:\{\s*+\\circ\s*+\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])"), "°"),
    # spaces: \, \; \: \! "\ " and ~ between a number and its unit
    (re.compile(r"\\[,;:!]|\\(?=\s)|(?<=[\d}])~(?=[\\A-Za-z])"), " "),
    # escaped signs: \% \$ \# \&
    (re.compile(r"\\([%$#&])"), r"\1"),
    # thousands: 1{,}000
    (re.compile(r"(?<=\d)\{,\}(?=\d{3})"), ","),
)


def final_answer(reply: str) -> str:
    """The part of a reply that answers, in time linear in its length.

    Reasoning is removed. Then the first of these counts that exists: the last <answer>...</answer>, an <answer> that
    the length limit cut off, the last <|begin_of_box|>, all of the rest (empty if the reasoning never ended). In
    that, the last ``\\boxed{...}`` counts if there is one. LaTeX's commands for text are removed.
    """
    text = _in_tags(without_reasoning(fold(reply)))
    if boxes := list(_BEGIN_OF_BOX.finditer(text)):
        text = boxes[-1]["content"]
    boxed = _in_boxed(text)
    return _without_commands(text if boxed is None else boxed).strip()


def _in_tags(text: str) -> str:
    """The content of the last pair of answer tags, else what follows the last opening tag, else the text."""
    content: str | None = None
    opened: int | None = None
    for tag in _TAG.finditer(text):
        if not tag["close"]:
            opened = tag.end()
        elif opened is not None:
            content, opened = text[opened : tag.start()], None
    if content is not None:
        return content
    return text if opened is None else text[opened:]


def _in_boxed(text: str) -> str | None:
    """The content of the last closed ``\\boxed{...}``, nested braces included."""
    open_braces: list[int | None] = []
    start = end = -1
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            open_braces.append(brace.end() if len(brace[0]) > 1 else None)
        elif open_braces and (begun := open_braces.pop()) is not None and begun > start:
            start, end = begun, brace.start()
    return None if start < 0 else text[start:end]


def _without_commands(text: str) -> str:
    """The text without LaTeX commands that only change how it looks."""
    if "\\" not in text and "{,}" not in text:
        return text
    for _ in range(3):  # nested commands: \textbf{\text{B}}
        text = _TEXT_COMMAND.sub(r"\1", text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    return text
