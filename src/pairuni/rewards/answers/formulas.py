"""Whether two formulas are equal, by math-verify in a child process.

A tower of powers never finishes in a computer algebra system, and math-verify's own time limit works only in the main
thread, so formulas are compared in a process that can be killed. Words are never compared: math-verify reads them as
products of symbols and finds "on" equal to "no".
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import re
import select
import subprocess
import sys
import threading
import unicodedata
from typing import TextIO

from pairuni.rewards.answers.tokens import word_set

MATH_VERIFY = "the package math-verify: pip install 'pairuni[math]'"
"""What comparisons need, for messages."""
SECONDS = 3.0
"""A comparison that takes longer counts as unequal; math-verify's own limit is 5."""
BATCH_SECONDS = 20.0
"""Seconds per batch for comparisons that time out, without restarts; beyond them, all formulas are unequal."""
MAX_CHARACTERS = 500
"""Length of a formula; longer texts are not formulas."""
_MIN_SECONDS = 0.5
_START_SECONDS = 120.0
_MEMORY_BYTES = 4 << 30
_FUNCTIONS = word_set("sin cos tan cot log ln exp sqrt pi min max mod gcd lcm frac")
_ROOT = re.compile(r"√\s?(\d+(?:\.\d+)?|[A-Za-z]|\([^()]*\))")
_POWER = re.compile(r"[⁰¹²³⁴-⁹]+")
_OPERATOR = r"\\[A-Za-z]|[\^=√π+*/<>]|\w\s*-|-\s*\w"
_DELIMITED = re.compile(
    r"\$\$([^$]+)\$\$"  # $$...$$
    r"|\$([^$]+)\$"  # $...$
    r"|\\\(((?:(?!\\[()]).)+)\\\)"  # \(...\)
    r"|\\\[((?:(?!\\[\[\]]).)+)\\\]",  # \[...\]
    re.S,
)


def is_formula(text: str) -> bool:
    """Whether a text has only numbers, single letters, operators and LaTeX commands, and is not a letter or word."""
    if len(text) > MAX_CHARACTERS:
        return False
    bare = _POWER.sub("", re.sub(r"\\[A-Za-z]+", " ", text))
    words = {word.lower() for word in re.findall(r"[^\W\d_]{2,}", bare)}
    if re.search(r"\\(?:text|mbox|textbf|mathrm)\s*\{", text) or words - _FUNCTIONS:
        return False
    return bool(re.search(rf"\d|{_OPERATOR}", text))


def is_symbolic(formula: str) -> bool:
    """Whether comparing a formula needs algebra, which plain numbers do not."""
    return len(formula) > 1 and bool(re.search(r"[\\^=√π+*<>]|[^\W\d_]", formula))


def formulas_in(text: str) -> list[str]:
    """The formulas that a text delimits by $...$, \\(...\\) or \\[...\\]; else the text itself if it is one.

    Digits and letters without an operator are then a label or a quantity: C2H4, 3B, 20 g.
    """
    found = ["".join(parts).strip() for parts in _DELIMITED.findall(text)]
    if delimited := [one for one in found if is_formula(one)]:
        return delimited
    formula = text.strip().rstrip(".").strip()
    if len(formula) > MAX_CHARACTERS:
        return []
    joined = re.search(rf"{_OPERATOR}|\b(?:{'|'.join(_FUNCTIONS)})\b", formula)
    return [formula] if is_formula(formula) and (joined or not re.search(r"[^\W\d_]", formula)) else []


class TimeBudget:
    """The time left for comparisons that never end, shared by the answers of a batch.

    A formula that ran out of time is not compared again. The less time is left, the sooner a comparison is stopped,
    so that a few formulas that hang do not use up the time of the others.
    """

    def __init__(self) -> None:
        self._left = BATCH_SECONDS
        self._hung: set[str] = set()

    def seconds_for(self, formula: str) -> float:
        """How long the comparison of a formula may take; 0 if it may not be compared."""
        if self._left <= 0 or formula in self._hung:
            return 0.0
        return min(SECONDS, max(_MIN_SECONDS, SECONDS * self._left / BATCH_SECONDS))

    def lost(self, formula: str, seconds: float) -> None:
        """Record a comparison that was stopped after ``seconds``."""
        self._left -= seconds
        self._hung.add(formula)


def _latex(formula: str) -> str:
    """A formula with LaTeX commands for the signs in 90°, √2 and x², which math-verify does not read."""
    formula = _ROOT.sub(lambda root: rf"\sqrt{{{root[1]}}}", formula.replace("°", r"^\circ"))
    return _POWER.sub(lambda power: f"^{{{unicodedata.normalize('NFKC', power[0])}}}", formula)


def can_compare() -> bool:
    """Whether math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


def formulas_equal(truth: str, given: str, budget: TimeBudget | None = None) -> bool:
    """Whether two formulas are the same number, set or expression; False if the comparison takes too long.

    Raises ImportError with the install command if math-verify is missing.
    """
    budget = budget or TimeBudget()
    seconds = budget.seconds_for(given)
    if seconds <= 0:
        return False
    equal = _comparer.equal(_latex(truth), _latex(given), seconds=seconds)
    if equal is None:
        budget.lost(given, seconds)
    return bool(equal)


class _Comparer:
    """A child process that compares formulas, one pair per line; started on first use and again after it hung."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        atexit.register(self.stop)

    def equal(self, truth: str, given: str, *, seconds: float) -> bool | None:
        """None if there is no answer in time; the process is then restarted."""
        with self._lock:
            into, out = _pipes(self._started())
            try:
                into.write(json.dumps([truth, given]) + "\n")
                into.flush()
                ready, _, _ = select.select([out], [], [], seconds)
                answer = out.readline() if ready else ""
            except BrokenPipeError:
                answer = ""
            if not answer:  # the child hung, or the formulas made it crash
                self.stop()
                self._started()
                return None
            return bool(json.loads(answer))

    def stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in _pipes(self._child):
                pipe.close()
            self._child = None

    def _started(self) -> subprocess.Popen[str]:
        if self._child is None:
            if not can_compare():
                raise ImportError(f"answers that are formulas need {MATH_VERIFY}")
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            out = _pipes(self._child)[1]
            ready, _, _ = select.select([out], [], [], _START_SECONDS)
            if not ready or out.readline() != "ready\n":
                self.stop()
                raise RuntimeError(f"the process that compares formulas ({__name__}) did not start")
        return self._child


def _pipes(child: subprocess.Popen[str]) -> tuple[TextIO, TextIO]:
    assert child.stdin is not None
    assert child.stdout is not None
    return child.stdin, child.stdout  # type: ignore[return-value]


_comparer = _Comparer()


def _serve() -> None:
    import logging
    import resource

    from math_verify import LatexExtractionConfig, parse, verify

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    print("ready", flush=True)
    for line in sys.stdin:
        truth, given = (
            parse(
                f"\\boxed{{{formula}}}",
                extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
                parsing_timeout=None,
            )
            for formula in json.loads(line)
        )
        print(json.dumps(bool(truth and given and verify(truth, given, timeout_seconds=None))), flush=True)


if __name__ == "__main__":
    _serve()
