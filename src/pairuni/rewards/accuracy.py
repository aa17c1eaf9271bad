"""Reward of answers: 1 if the extracted answer equals the truth, else 0 (arXiv:2510.25682 section 2.2)."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from pairuni.config import RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.answers import (
    chosen_letters,
    final_answer,
    normalise,
    numbers,
    parse_options,
    same_words,
    stated,
    undenied,
)
from pairuni.rewards.mathematics import formulas_equal, formulas_in, is_symbolic

_LEAD_IN = re.compile(r"^(?:it|this|that|there|they|i|[a-z]+)(?: \w+){0,5}? (?:is|are|see) ", re.I)


def answers_match(question: str, truth: str, reply: str) -> bool:
    """Whether a reply gives the true answer to a question.

    Exact comparison comes first; a question with options (or a truth that is letters) is then decided by the
    options chosen, which must be the true ones and no others; open answers are compared as words, as numbers
    where the truth is a number and the reply names just one, and as formulas (math-verify) where both are.
    """
    given, truth = final_answer(reply), final_answer(truth) or truth.strip()
    if not given:
        return False
    if given == truth:
        return True
    options = parse_options(question)
    if not options and re.fullmatch(r"\W*[A-Z](?:\W+(?:and\W+)?[A-Z])*\W*", truth):
        options = dict.fromkeys(string.ascii_uppercase[:10], "")
    true_letters = chosen_letters(truth, options) if options else set()
    if true_letters:
        return chosen_letters(given, options) == true_letters
    return _open_match(truth, given)


def _open_match(truth: str, given: str) -> bool:
    wanted = formulas_in(truth)
    if len(wanted) == 1 and is_symbolic(wanted[0]):
        return _formulas_match(wanted[0], given)
    if _words_match(truth, given):
        return True
    true_numbers = numbers(truth)
    if len(true_numbers) == 1 and len(normalise(truth).split()) <= 2:
        if any(is_symbolic(one) for one in formulas_in(stated(given))):
            return len(wanted) == 1 and _formulas_match(wanted[0], given)
        return set(numbers(undenied(stated(given)))) == set(true_numbers)
    return False


def _words_match(truth: str, given: str) -> bool:
    wanted = normalise(truth)
    for text in (given, stated(given)):
        if same_words(truth, text) or (wanted and wanted == _LEAD_IN.sub("", normalise(text))):
            return True
    if wanted in {"yes", "no"}:
        said = [word for word in normalise(undenied(stated(given))).split() if word in {"yes", "no"}]
        return said[:1] == [wanted] and len(set(said)) == 1
    return False


def _formulas_match(wanted: str, given: str) -> bool:
    """Whether all formulas that an answer states equal the one wanted."""
    claimed = formulas_in(_LEAD_IN.sub("", stated(given).strip()))
    return bool(claimed) and all(one == wanted or formulas_equal(wanted, one) for one in claimed)


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
        return [
            float(answers_match(record.question, record.answer, sample))
            for record, sample in zip(records, samples, strict=True)
        ]
