"""Reward of answers: 1 if the extracted answer equals the truth, else 0 (arXiv:2510.25682 section 2.2).

The rules and their reasons are in docs/answers.md.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from pairuni.config import RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.answers.claims import DENIAL, concluded, first_line, stated, undenied
from pairuni.rewards.answers.mathematics import Patience, formulas_equal, formulas_in, is_symbolic
from pairuni.rewards.answers.quantities import gives, true_quantity
from pairuni.rewards.answers.replies import chosen_letters, final_answer, parse_options
from pairuni.rewards.answers.sentences import answers_in_a_sentence
from pairuni.rewards.answers.words import fold, normalise, same_words
from pairuni.rewards.answers.yes_no import UNKNOWING, says

LONGEST = 100_000
"""Characters of an answer; a longer one is wrong unread."""

_LEAD_IN = re.compile(
    r"^(?:[a-z]+(?:'s)?(?: [\w']+){0,12}? "
    r"(?:is|are|was|were|see|says|reads|shows|looks|seems|appears|be)|it's|that's|there's|they're|he's|she's)"
    r"(?: (?:to be|like))? "
)
_NOT_SO = re.compile(
    r"\b(?:or|either|if|unless|nothing|none|nobody|no|wrong|incorrect|false|opposite|everything|"
    r"maybe|perhaps|possibly)\b"
)
_NONE = re.compile(
    r"(?:there (?:is|are) )?(?:none|nothing|nobody|no one|(?:no|not any) (?!(?:"
    + UNKNOWING
    + r")\b)\w+(?: \w+){0,4})"
)
_LEFT_SIDES = re.compile(
    r"\A[^=]*[^=<>!~:≠]=(?:(?:[\d\s+*/×·÷()^-]|\.\d|(?<![a-zA-Z\\])[a-zA-Z]{1,2}(?![a-zA-Z])|\\(?:times|cdot|div)\b)++=)*+"
    r"(?=[^=>]*\Z)"
)
"""What stands left of the result in one equation or a chain: 3 + 4 = 7, F = ma = 2 × 5 = 10."""
_MOST_FORMULAS = 10
"""Different formulas in one answer; one with more names no result."""


def answers_match(question: str, truth: str, reply: str, patience: Patience | None = None) -> bool:
    """Whether a reply gives the true answer to a question.

    Exact comparison comes first; a question with options (or a truth that is letters) is then decided by the
    options chosen, which must be the true ones and no others; open answers are compared as words, as yes or no, as
    quantities and as formulas (math-verify), where the truth is one. No reply raises, and the time grows with its
    length alone but for formulas, which ``patience`` bounds.
    """
    question, truth = fold(question), fold(truth)
    given, truth = final_answer(reply), final_answer(truth) or truth.strip()
    if not given or len(given) > LONGEST:
        return False
    if given == truth:
        return True
    options = parse_options(question)
    if not options and re.fullmatch(r"\W*[A-Z](?:\W+(?:and\W+)?[A-Z])*\W*", truth):
        options = dict.fromkeys(string.ascii_uppercase[:10], "")
    true_letters = chosen_letters(truth, options) if options else set()
    if true_letters:
        return chosen_letters(given, options) == true_letters
    return _open_match(question, truth, given, patience or Patience())


def _open_match(question: str, truth: str, given: str, patience: Patience) -> bool:
    wanted = formulas_in(truth)
    quantity = true_quantity(truth)
    if len(wanted) == 1 and is_symbolic(wanted[0]):
        equal = _formulas_match(wanted[0], given, patience)
        if equal or quantity is None or not (quantity.bound or quantity.units):
            return equal
    readings = [given, first_line(given)]
    is_open = quantity is None and normalise(truth) not in ("yes", "no")
    if is_open or quantity:
        readings.append(concluded(given))
    return any(
        (not (quantity and quantity.units) and _words_match(truth, one))
        or (is_open and answers_in_a_sentence(question, truth, stated(one)))
        or _value_matches(question, truth, one, patience)
        for one in readings
        if one
    )


def _words_match(truth: str, given: str) -> bool:
    wanted = normalise(truth)
    return any(
        same_words(truth, text) or (wanted != "" and wanted == _without_lead_in(normalise(text)))
        for text in (given, stated(given))
    )


def _without_lead_in(text: str) -> str:
    """Normalised words without "it is", "the colour is", "I see"; as they are where that denies them."""
    lead_in = _LEAD_IN.match(text)
    if lead_in is None or DENIAL.search(lead_in[0]) or _NOT_SO.search(lead_in[0]):
        return text
    return text[lead_in.end() :]


def _value_matches(question: str, truth: str, given: str, patience: Patience) -> bool:
    """Whether an answer says the yes, the no or the quantity that the truth is."""
    claimed = stated(given)
    wanted = normalise(truth)
    if wanted in ("yes", "no"):
        return says(wanted, claimed, undenied(claimed))
    quantity = true_quantity(truth)
    if quantity is None:
        return False
    if not quantity.units and any(is_symbolic(one) for one in formulas_in(claimed)):
        formulas = formulas_in(truth)
        return len(formulas) == 1 and _formulas_match(formulas[0], given, patience)
    if wanted == "0" and _NONE.fullmatch(normalise(claimed)):
        return True
    return gives(quantity, undenied(_result(claimed)), question)


def _result(text: str) -> str:
    """The right side of an equation or a chain of them, or the text."""
    left = _LEFT_SIDES.match(text)
    return text if left is None or _NOT_SO.search(left[0]) else text[left.end() :]


def _formulas_match(wanted: str, given: str, patience: Patience) -> bool:
    """Whether all formulas that an answer states equal the one wanted."""
    lead_in = _LEAD_IN.match(text := stated(given).strip().lower())
    claimed = set(formulas_in(stated(given).strip()[lead_in.end() if lead_in else 0 :])) if text else set()
    return 0 < len(claimed) <= _MOST_FORMULAS and all(
        one == wanted or formulas_equal(wanted, one, patience) for one in sorted(claimed)
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

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        """One score a sample; raises ValueError when records and samples differ in number."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} answers to score")
        patience = Patience()
        return [
            float(answers_match(record.question, record.answer, sample, patience))
            for record, sample in zip(records, samples, strict=True)
        ]
