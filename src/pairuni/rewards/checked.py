"""Checked calls of a reward: an exception, a hang or an invalid score is an error that names reward and record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any

from pairuni.io.threads import call_within
from pairuni.records import Annotation
from pairuni.rewards.reward import Reward

LARGEST = 1e15
"""Scores beyond it are errors: their squares and sums overflow, and ``runs.reading`` refuses them in a run's files."""


class RewardError(RuntimeError):
    """A reward raised, hung, or returned an invalid score. Names the reward and the record."""


class _Hung(Exception):
    """The reward did not return in time."""


def checked_scores(
    reward: Reward, records: Sequence[Annotation], samples: Sequence[Any], *, timeout: float | None = None
) -> list[float]:
    """One finite score per sample. timeout: seconds for the batch, or None.

    Raises RewardError, naming reward and record, for anything else. To find the record, a reward that raised or
    hung is called again with one sample at a time. A hung call stays in a daemon thread.
    """

    def call(records: Sequence[Annotation], samples: Sequence[Any]) -> list[Any]:
        def scores() -> list[Any]:
            return _as_list(reward.name, reward(records, samples))

        return scores() if timeout is None else call_within(timeout, scores, _Hung())

    try:
        scores = call(records, samples)
    except _Hung:
        where = _first_failing(call, records, samples)
        raise RewardError(
            f"reward {reward.name!r} gave no answer within {timeout:g} seconds on {where}; "
            f"reward.timeout sets the limit"
        ) from None
    except RewardError:
        raise
    # a reward is the user's code: report any exception with its record, and do not let SystemExit end the process
    except (Exception, SystemExit) as error:
        where = _first_failing(call, records, samples)
        raise RewardError(f"reward {reward.name!r} failed on {where}: {error!r}") from error
    if len(scores) != len(samples):
        raise RewardError(f"reward {reward.name!r} gave {len(scores)} scores for {len(samples)} samples")
    return [_number(reward.name, record, score) for record, score in zip(records, scores, strict=True)]


def describe(record: Annotation) -> str:
    """A record for error messages: its id if it has one, image, prompt and question."""
    own_id = (record.model_extra or {}).get("id")
    named = f"sample {own_id}, " if own_id is not None else ""
    return f"{named}{record.image_path} (prompt {record.prompt!r}, question {record.question!r})"


def _as_list(name: str, scores: Any) -> list[Any]:
    """Raises RewardError for what has no order of scores: keys of a mapping would count as scores."""
    if isinstance(scores, Mapping | Set | str | bytes) or not isinstance(scores, Iterable):
        kind = "None" if scores is None else f"a {type(scores).__name__}"
        raise RewardError(f"reward {name!r} gave {kind}, not a list with a score for each sample")
    return list(scores)


def _number(name: str, record: Annotation, score: Any) -> float:
    try:
        given = score if isinstance(score, Real) else score.item()  # tensors and arrays of one number
    except (AttributeError, TypeError, ValueError, RuntimeError):
        given = None
    if not isinstance(given, Real) or isinstance(given, bool):
        raise RewardError(f"reward {name!r} gave {score!r}, not a number, for {describe(record)}")
    try:
        value = float(given)
    except OverflowError:  # an integer too large for a float
        value = math.inf
    if not math.isfinite(value):
        raise RewardError(f"reward {name!r} gave {value} for {describe(record)}")
    if abs(value) > LARGEST:
        raise RewardError(
            f"reward {name!r} gave {value:g}, beyond the largest score of {LARGEST:g}, for {describe(record)}"
        )
    return value


def _first_failing(
    call: Callable[[Sequence[Annotation], Sequence[Any]], list[Any]],
    records: Sequence[Annotation],
    samples: Sequence[Any],
) -> str:
    for record, sample in zip(records, samples, strict=True):
        try:
            call([record], [sample])
        except (Exception, SystemExit):
            return describe(record)
    return f"a batch of {len(samples)}, but on no single sample"
