"""Asking a reward and believing nothing: what raises, hangs or gives no score is an error with a name."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from pairuni.records import Annotation
from pairuni.rewards.reward import Reward


class RewardError(RuntimeError):
    """A reward raised, hung, or gave something that is no score; names the reward and the record."""


class _Hung(Exception):
    """No answer in time."""


def checked_scores(
    reward: Reward, records: Sequence[Annotation], samples: Sequence[Any], *, timeout: float | None = None
) -> list[float]:
    """One finite score a sample. timeout: seconds for the batch; None waits for ever.

    Raises RewardError, naming reward and record, for anything else. To find the record, a reward that raised or
    hung is asked again for one sample at a time. A hung call is left behind in a thread that does not keep the
    process from ending.
    """

    def ask(some: Sequence[Annotation], of: Sequence[Any]) -> list[Any]:
        return _within(timeout, lambda: list(reward(some, of)))

    try:
        scores = ask(records, samples)
    except _Hung:
        where = _first_failing(ask, records, samples)
        raise RewardError(
            f"reward {reward.name!r} gave no answer within {timeout:g} seconds on {where}; "
            f"reward.timeout sets the time"
        ) from None
    except RewardError:
        raise
    # a reward is the user's code: whatever it raises must reach them with its record, and none may end the process
    except (Exception, SystemExit) as error:
        where = _first_failing(ask, records, samples)
        raise RewardError(f"reward {reward.name!r} failed on {where}: {error!r}") from error
    if len(scores) != len(samples):
        raise RewardError(f"reward {reward.name!r} gave {len(scores)} scores for {len(samples)} samples")
    return [_number(reward.name, record, score) for record, score in zip(records, scores, strict=True)]


def describe(record: Annotation) -> str:
    """A record as a person can find it."""
    own_id = (record.model_extra or {}).get("id")
    named = f"sample {own_id}, " if own_id is not None else ""
    return f"{named}{record.image_path} (prompt {record.prompt!r}, question {record.question!r})"


def _number(name: str, record: Annotation, score: Any) -> float:
    try:
        given = score if isinstance(score, Real) else score.item()  # tensors and arrays of one number
    except (AttributeError, TypeError, ValueError, RuntimeError):
        given = None
    if not isinstance(given, Real) or isinstance(given, bool):
        raise RewardError(f"reward {name!r} gave {score!r}, not a number, for {describe(record)}")
    try:
        value = float(given)
    except OverflowError:  # an integer beyond what a float holds
        value = math.inf
    if not math.isfinite(value):
        raise RewardError(f"reward {name!r} gave {value} for {describe(record)}")
    return value


def _within(timeout: float | None, work: Callable[[], list[Any]]) -> list[Any]:
    """What ``work`` returns or raises; _Hung when it takes longer than ``timeout`` seconds."""
    if timeout is None:
        return work()
    made: list[list[Any]] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:  # carried to the thread that waits, which raises it
            raised.append(error)

    thread = threading.Thread(target=run, name="reward", daemon=True)
    thread.start()
    thread.join(timeout)
    if raised:
        raise raised[0]
    if not made:
        raise _Hung
    return made[0]


def _first_failing(
    ask: Callable[[Sequence[Annotation], Sequence[Any]], list[Any]],
    records: Sequence[Annotation],
    samples: Sequence[Any],
) -> str:
    for record, sample in zip(records, samples, strict=True):
        try:
            ask([record], [sample])
        except (Exception, SystemExit):  # the search for the record that made the batch fail
            return describe(record)
    return f"a batch of {len(samples)}, though on no sample alone"
