"""The reward accuracy: 1 if the extracted answer equals the truth, else 0 (arXiv:2510.25682 section 2.2).

docs/answers.md explains the rules.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from pairuni.config import RewardSettings
from pairuni.console.counts import counted
from pairuni.records import Annotation
from pairuni.rewards.answers.claims import QUALIFIER, concluded, first_line, stated, undenied
from pairuni.rewards.answers.final_answer import final_answer
from pairuni.rewards.answers.formulas import (
    MATH_VERIFY,
    TimeBudget,
    can_compare,
    formulas_equal,
    formulas_in,
    is_symbolic,
)
from pairuni.rewards.answers.options import chosen_letters, parse_options
from pairuni.rewards.answers.quantities import quantities_match, true_quantity
from pairuni.rewards.answers.tokens import fold, normalise
from pairuni.rewards.answers.words import INTRODUCTION, answers_in_a_sentence, words_match
from pairuni.rewards.answers.yes_no import says, says_none

MAX_CHARACTERS = 100_000
"""Length of an answer; longer answers are wrong."""
_MAX_FORMULAS = 10
"""Different formulas in one answer; an answer with more has no result."""
_LETTERS = re.compile(r"\W*[A-Z](?:\W+(?:and\W+)?[A-Z])*\W*")
"""A truth that is letters: "B", "(A)", "A, B and C"."""
_LEFT_SIDES = re.compile(
    r"\A[^=]*[^=<>!~:≠]="  # F =
    r"(?:(?:[\d\s+*/×·÷()^-]|\.\d"  # numbers and operators
    r"|(?<![a-zA-Z\\])[a-zA-Z]{1,2}(?![a-zA-Z])"  # symbols of one or two letters
    r"|\\(?:times|cdot|div)\b)++=)*+"  # ... =, repeatedly
    r"(?=[^=>]*\Z)"
)
"""All but the result of an equation or a chain of equations: 3 + 4 = 7, F = ma = 2 × 5 = 10."""


def answers_match(question: str, truth: str, reply: str, budget: TimeBudget | None = None) -> bool:
    """Whether a reply gives the true answer to a question.

    Exact equality comes first. If the question has options, or the truth is letters, exactly the true options must be
    chosen. Otherwise, the answer is compared as words, as yes or no, as a quantity and as a formula (math-verify),
    whichever of them the truth is. No reply raises an error, and the time is linear in its length, except for
    formulas, whose time ``budget`` limits.
    """
    question, truth = fold(question), fold(truth)
    given, truth = final_answer(reply), final_answer(truth) or truth.strip()
    if not given or len(given) > MAX_CHARACTERS:
        return False
    if given == truth:
        return True
    options = _options(question, truth)
    true_letters = chosen_letters(truth, options) if options else set()
    if true_letters:
        return chosen_letters(given, options) == true_letters
    return _open_answers_match(question, truth, given, budget or TimeBudget())


def may_need_formulas(question: str, truth: str) -> bool:
    """Whether some reply has to be compared with the truth as a formula."""
    question, truth = fold(question), fold(truth)
    truth = final_answer(truth) or truth.strip()
    options = _options(question, truth)
    formulas = formulas_in(truth)
    if (options and chosen_letters(truth, options)) or len(formulas) != 1:
        return False
    quantity = true_quantity(truth)
    return is_symbolic(formulas[0]) or (quantity is not None and not quantity.units)


def _options(question: str, truth: str) -> dict[str, str]:
    """The options of a question by letter; unnamed ones if only the truth says that there are any."""
    options = parse_options(question)
    if not options and _LETTERS.fullmatch(truth):
        return dict.fromkeys(string.ascii_uppercase[:10], "")
    return options


def _open_answers_match(question: str, truth: str, given: str, budget: TimeBudget) -> bool:
    formulas = formulas_in(truth)
    quantity = true_quantity(truth)
    if len(formulas) == 1 and is_symbolic(formulas[0]):
        equal = _formulas_match(formulas[0], given, budget)
        if equal or quantity is None or not (quantity.bound or quantity.units):
            return equal
    readings = [given, first_line(given)]
    is_words = quantity is None and normalise(truth) not in ("yes", "no")
    if is_words or quantity:
        readings.append(concluded(given))
    return any(
        (not (quantity and quantity.units) and words_match(truth, one))
        or (is_words and answers_in_a_sentence(question, truth, stated(one)))
        or _value_matches(question, truth, one, budget)
        for one in readings
        if one
    )


def _value_matches(question: str, truth: str, given: str, budget: TimeBudget) -> bool:
    """Whether an answer states the yes, no or quantity that the truth is."""
    claimed = stated(given)
    wanted = normalise(truth)
    if wanted in ("yes", "no"):
        return says(wanted, claimed, undenied(claimed))
    quantity = true_quantity(truth)
    if quantity is None:
        return False
    if not quantity.units and any(is_symbolic(one) for one in formulas_in(claimed)):
        formulas = formulas_in(truth)
        return len(formulas) == 1 and _formulas_match(formulas[0], given, budget)
    if wanted == "0" and says_none(claimed):
        return True
    return quantities_match(quantity, undenied(_result(claimed)), question)


def _result(text: str) -> str:
    """The right side of an equation or of a chain of equations, or the text."""
    left = _LEFT_SIDES.match(text)
    return text if left is None or QUALIFIER.search(left[0]) else text[left.end() :]


def _formulas_match(wanted: str, given: str, budget: TimeBudget) -> bool:
    """Whether the answer states formulas and all of them equal the wanted one."""
    text = stated(given).strip()
    introduction = INTRODUCTION.match(text.lower())
    claimed = set(formulas_in(text[introduction.end() if introduction else 0 :])) if text else set()
    return 0 < len(claimed) <= _MAX_FORMULAS and all(
        one == wanted or formulas_equal(wanted, one, budget) for one in sorted(claimed)
    )


class AccuracyReward:
    """1.0 for each right answer, 0.0 for each wrong one."""

    name = "accuracy"
    range = (0.0, 1.0)
    needs = ("question", "answer")

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> AccuracyReward:
        """It has no settings."""
        return cls()

    def check_records(self, records: Sequence[Annotation]) -> None:
        """Raises ImportError if a reply may be a formula, and math-verify, which compares it, is missing."""
        if can_compare():
            return
        found = [one for one in records if may_need_formulas(one.question, one.answer)]
        if found:
            raise ImportError(
                f"{len(found)} of {counted(len(records), 'answer')} are numbers or formulas, the first of them "
                f"{found[0].answer!r}; to compare replies that are formulas, such as 3 + 4 = 7, the reward accuracy "
                f"needs {MATH_VERIFY}"
            )

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        """One score per sample. Raises ValueError if records and samples differ in number."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} answers to score")
        budget = TimeBudget()
        return [
            float(answers_match(record.question, record.answer, sample, budget))
            for record, sample in zip(records, samples, strict=True)
        ]
