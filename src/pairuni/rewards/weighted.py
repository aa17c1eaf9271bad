"""Weighted sums of rewards, such as "accuracy + 0.1 * format"."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.records import Annotation
from pairuni.rewards.checked import checked_scores, describe
from pairuni.rewards.reward import Reward, needs_of

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TERM = re.compile(rf"\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>[A-Za-z_][\w.]*(?::\w+)?)\s*")


@dataclass(frozen=True)
class Term:
    """One reward and its weight in the sum."""

    weight: float
    reward: Reward


class WeightedReward:
    """The weighted sum of its terms' scores. Raises ValueError if two terms share a name."""

    def __init__(self, terms: Sequence[Term]) -> None:
        names = [term.reward.name for term in terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the reward {twice[0]!r} occurs twice in a sum; give it one weight")
        self.terms = tuple(terms)
        self.needs = tuple(dict.fromkeys(key for term in terms for key in needs_of(term.reward)))
        self.name = " + ".join(f"{term.weight:g} * {term.reward.name}" for term in terms)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        """One score per sample. Raises RewardError naming the term that fails."""
        return total_scores(self, scores_by_term(self, records, samples))


def terms_of(reward: Reward) -> tuple[Term, ...]:
    """The terms of a sum; a single reward is a term of weight 1."""
    return reward.terms if isinstance(reward, WeightedReward) else (Term(1.0, reward),)


def check_records(reward: Reward, records: Sequence[Annotation]) -> None:
    """Whether a reward can score samples of these records, as far as that is known without samples.

    Raises ValueError if records lack a key that a term needs, naming term, key, number and first of the records, and
    what ``check_records`` of a term raises.
    """
    for term in terms_of(reward):
        for key in needs_of(term.reward):
            lacking = [record for record in records if dict(record).get(key) is None]
            if lacking:
                raise ValueError(
                    f"reward {term.reward.name!r} needs {key!r}, which {len(lacking)} of {len(records)} records lack, "
                    f"the first of them {describe(lacking[0])}"
                )
        if (check := getattr(term.reward, "check_records", None)) is not None:
            check(records)


def scores_by_term(
    reward: Reward, records: Sequence[Annotation], samples: Sequence[Any], *, timeout: float | None = None
) -> dict[str, list[float]]:
    """Each term's unweighted scores of the samples, by the term's name.

    timeout: seconds for each term, or None. Raises RewardError naming the term that fails.
    """
    return {
        term.reward.name: checked_scores(term.reward, records, samples, timeout=timeout)
        for term in terms_of(reward)
    }


def total_scores(reward: Reward, by_term: Mapping[str, Sequence[float]]) -> list[float]:
    """The weighted sum of the scores of ``scores_by_term``, one number per sample."""
    weights = [term.weight for term in terms_of(reward)]
    return [
        sum(weight * score for weight, score in zip(weights, scores, strict=True))
        for scores in zip(*by_term.values(), strict=True)
    ]


def parse_sum(text: str) -> list[tuple[float, str]]:
    """Weights and names of "name + weight * name + ..."; a name without a weight has weight 1.

    Raises ValueError for anything else, and for a weight that is 0 or not finite.
    """
    terms: list[tuple[float, str]] = []
    place = 0
    while match := _TERM.match(text, place):
        weight = float(match["weight"] or 1.0)
        if weight == 0.0 or not math.isfinite(weight):
            raise ValueError(f"the reward {match['name']} has weight {match['weight']}: leave it out instead")
        terms.append((weight, match["name"]))
        place = match.end()
        if place == len(text):
            return terms
        if text[place] != "+":
            break
        place += 1
    raise ValueError(
        f"{text!r} is not a sum of rewards (near {text[place : place + 20]!r}): write a name, or names with weights "
        f'such as "accuracy + 0.1 * format"'
    )
