"""Whether two formulas are equal, by math-verify in a process of its own.

A tower of powers keeps a computer algebra system busy for ever, and its own time limit works in the main thread
alone; so the comparison runs where it can be killed. Words never come here: math-verify reads them as products of
symbols and finds "on" equal to "no".
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

SECONDS = 3.0
"""What takes longer to compare counts as unequal, as in math-verify, which waits for 5."""
BATCH_SECONDS = 20.0
"""What a batch may lose to comparisons that never end, restarts aside; formulas that come after that are unequal."""
LONGEST = 500
"""Characters of a formula; longer ones are no answer."""
_LEAST_SECONDS = 0.5
_START = 120.0
_MEMORY = 4 << 30
_FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "cot",
    "log",
    "ln",
    "exp",
    "sqrt",
    "pi",
    "min",
    "max",
    "mod",
    "gcd",
    "lcm",
    "frac",
}
_ROOT = re.compile(r"√\s?(\d+(?:\.\d+)?|[A-Za-z]|\([^()]*\))")
_POWER = re.compile(r"[⁰¹²³⁴-⁹]+")
_OPERATOR = r"\\[A-Za-z]|[\^=√π+*/<>]|\w\s*-|-\s*\w"
_DELIMITED = re.compile(
    r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\(((?:(?!\\[()]).)+)\\\)|\\\[((?:(?!\\[\[\]]).)+)\\\]", re.S
)


def is_formula(text: str) -> bool:
    """Whether a text is numbers, single letters, operators and LaTeX commands alone, and not one letter or a word."""
    if len(text) > LONGEST:
        return False
    bare = _POWER.sub("", re.sub(r"\\[A-Za-z]+", " ", text))
    words = {word.lower() for word in re.findall(r"[^\W\d_]{2,}", bare)}
    if re.search(r"\\(?:text|mbox|textbf|mathrm)\s*\{", text) or words - _FUNCTIONS:
        return False
    return bool(re.search(rf"\d|{_OPERATOR}", text))


def is_symbolic(formula: str) -> bool:
    """Whether a formula is more than numbers, which can be compared without algebra."""
    return len(formula) > 1 and bool(re.search(r"[\\^=√π+*<>]|[^\W\d_]", formula))


def formulas_in(text: str) -> list[str]:
    """The formulas that a text sets apart by $...$, \\(...\\) or \\[...\\]; else the text, where it is one.

    Digits and letters that nothing joins are a label or a quantity there: C2H4, 3B, 20 g.
    """
    found = ["".join(parts).strip() for parts in _DELIMITED.findall(text)]
    if set_apart := [one for one in found if is_formula(one)]:
        return set_apart
    whole = text.strip().rstrip(".").strip()
    if len(whole) > LONGEST:
        return []
    joined = re.search(rf"{_OPERATOR}|\b(?:{'|'.join(_FUNCTIONS)})\b", whole)
    return [whole] if is_formula(whole) and (joined or not re.search(r"[^\W\d_]", whole)) else []


class Patience:
    """The time that is left to comparisons that never end, shared by the answers of a batch.

    A formula that ran out of time is not compared again. The less time is left, the sooner a comparison is cut off,
    so that a few formulas which hang do not take it from the others.
    """

    def __init__(self) -> None:
        self._left = BATCH_SECONDS
        self._hung: set[str] = set()

    def seconds_for(self, formula: str) -> float:
        """How long a formula may be compared; 0 for not at all."""
        if self._left <= 0 or formula in self._hung:
            return 0.0
        return min(SECONDS, max(_LEAST_SECONDS, SECONDS * self._left / BATCH_SECONDS))

    def lost(self, formula: str, seconds: float) -> None:
        """Counts a comparison that was cut off after ``seconds``."""
        self._left -= seconds
        self._hung.add(formula)


def _latex(formula: str) -> str:
    """A formula with signs that math-verify does not read as commands: 90°, √2, x²."""
    formula = _ROOT.sub(lambda root: rf"\sqrt{{{root[1]}}}", formula.replace("°", r"^\circ"))
    return _POWER.sub(lambda power: f"^{{{unicodedata.normalize('NFKC', power[0])}}}", formula)


def formulas_equal(truth: str, given: str, patience: Patience | None = None) -> bool:
    """Whether two formulas are the same number, set or expression; False when the comparison takes too long.

    Raises ImportError, with what to install, where math-verify is missing.
    """
    patience = patience or Patience()
    seconds = patience.seconds_for(given)
    if seconds <= 0:
        return False
    equal = _comparer.equal(_latex(truth), _latex(given), seconds=seconds)
    if equal is None:
        patience.lost(given, seconds)
    return bool(equal)


class _Comparer:
    """A child process that compares formulas, one a line; started when first asked, and anew after one that hung."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        atexit.register(self.stop)

    def equal(self, truth: str, given: str, *, seconds: float) -> bool | None:
        """None when there was no answer within the seconds; the process is started anew at once."""
        with self._lock:
            child = self._started()
            into, out = _pipes(child)
            try:
                into.write(json.dumps([truth, given]) + "\n")
                into.flush()
                ready, _, _ = select.select([out], [], [], seconds)
                answer = out.readline() if ready else ""
            except BrokenPipeError:
                answer = ""
            if not answer:  # it hung, or it died of what it was asked
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
            if importlib.util.find_spec("math_verify") is None:
                raise ImportError(
                    "an answer that is a formula needs the package math-verify: pip install 'pairuni[math]'"
                )
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            out = _pipes(self._child)[1]
            ready, _, _ = select.select([out], [], [], _START)
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

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
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
