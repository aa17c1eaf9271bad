"""Formulas: texts that are none, comparisons that never end, and the child process."""

import importlib.util
import os
import subprocess
import sys
import time

import pytest

from pairuni.records import Annotation
from pairuni.rewards.answers import formulas
from pairuni.rewards.answers.accuracy import answers_match
from pairuni.rewards.answers.final_answer import final_answer
from pairuni.rewards.answers.formulas import formulas_equal, formulas_in, is_formula
from pairuni.rewards.registry import text_reward
from pairuni.rewards.weighted import check_records

WORDS = [
    ("on", "no"),
    ("eat", "tea"),
    ("light blue", "blue light"),
    (r"\text{on}", r"\text{no}"),
    ("b", "cat"),
    ("C2H4", "C4H2"),
    ("H2O", "O2H"),
    ("3B", "B3"),
    ("2b", "b2"),
]


@pytest.mark.parametrize(("truth", "reply"), WORDS)
def test_words_are_not_products_of_symbols(truth: str, reply: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pairuni.rewards.answers.accuracy.formulas_equal", lambda *_: pytest.fail("words were compared")
    )
    assert not answers_match("What is it?", truth, reply)
    assert answers_match("What is it?", truth, truth)


def test_what_counts_as_a_formula() -> None:
    assert all(map(is_formula, ("3", "1/2", r"\frac12", "x+1", "2 sin x", r"\pi", "-x")))
    assert not any(map(is_formula, ("B", "cat", "3 cm", r"3\text{ cm}", "a red 7", "9" * 600, "")))
    assert formulas_in(r"either $x+1$ or \(x+2\), I think") == ["x+1", "x+2"]
    assert formulas_in("the colour of $money$") == []
    assert formulas_in("2x") == formulas_in("20 g") == []
    assert formulas_in("$2x$") == ["2x"]


def test_nested_braces_of_a_box_are_kept() -> None:
    assert final_answer(r"\boxed{7} no, \boxed{\frac{1}{\sqrt{2}}}") == r"\frac{1}{\sqrt{2}}"
    assert final_answer(r"\boxed{3} and \boxed{4") == "3"


def test_a_comparison_that_never_ends_is_cut_off_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert formulas_equal("x+1", "1+x")
    monkeypatch.setattr(formulas, "SECONDS", 1.0)
    began = time.monotonic()
    assert not formulas_equal("7", "9^{9^{9}}")
    assert 1.0 <= time.monotonic() - began < 20
    monkeypatch.setattr(formulas, "SECONDS", 30.0)
    assert formulas_equal("x+1", "1+x")


def test_invalid_formulas_are_unequal_and_do_not_break_the_child() -> None:
    assert not formulas_equal(r"\frac{1}{", "1")
    assert not formulas_equal("1", r"\begin{x} \\ {")
    assert formulas_equal(r"\frac{2}{4}", "0.5")


def test_the_child_ends_with_its_parent() -> None:
    code = (
        "from pairuni.rewards.answers import formulas as m; assert m.formulas_equal('x+1', '1+x');"
        "print(m._comparer._child.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_without_math_verify_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    formulas._comparer.stop()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pairuni\[math\]'"):
        answers_match("What is it?", r"\frac{1}{2}", "$0.5$")
    assert answers_match("What is it?", "1/2", "0.5")


def test_without_math_verify_numbers_and_formulas_are_refused_before_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def record(question: str, answer: str) -> Annotation:
        return Annotation(image_path="a.png", prompt="p", question=question, answer=answer)

    harmless = [record("Which? A. 3 B. 4", "B"), record("how many digits are there?", "three")]
    numbers = [record("How many?", "7"), record("What is it?", r"$x^2$")]
    accuracy = text_reward("accuracy + 0.1 * format")
    check_records(accuracy, harmless + numbers)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_records(accuracy, harmless)
    with pytest.raises(ImportError, match=r"^2 of 4 answers are .* '7'; .* pip install 'pairuni\[math\]'$"):
        check_records(accuracy, harmless + numbers)
