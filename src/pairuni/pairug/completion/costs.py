"""Tokens and costs of completion: measured, limited by a budget, and planned for a dry run."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pairuni.chat.request import RequestsStopped, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.requests import Request

WRITTEN_TOKENS = 300
"""Estimated tokens of a reply before any was measured."""


class CompletionPaused(RuntimeError):
    """Completion paused as requested and saved its work; the message says how to resume."""


def cost_of(settings: CompletionSettings, prompt_tokens: float, completion_tokens: float) -> float:
    """The cost in the currency of the prices, which are per million tokens."""
    sent = prompt_tokens * settings.price_input
    return (sent + completion_tokens * settings.price_output) / 1e6


class Budget:
    """Limits the answers and costs of a data set over all its builds. Safe between threads.

    Costs are those of the tokens that the server reported. A request in flight counts with the longest possible
    reply, so that the budget is never exceeded; near its end, requests wait for those in flight.
    """

    def __init__(self, settings: CompletionSettings, store: AnswerStore) -> None:
        self._settings = settings
        self._store = store
        self._released = threading.Condition()
        self._in_flight = 0
        self._cost_in_flight = 0.0

    def reserve(self, request: Request, stopping: Stopping | None = None) -> None:
        """Reserve the cost of a request, waiting for requests in flight if the rest of the budget is theirs.

        Raises CompletionPaused when the budget does not allow it, RequestsStopped on ``stopping``. Without
        ``stopping`` it does not wait.
        """
        most = self._most(request)
        with self._released:
            while reason := self._exceeded(most):
                if not self._in_flight or stopping is None:
                    raise CompletionPaused(reason)
                # stopping does not notify the condition, so it is polled
                self._released.wait(0.2)
                if stopping.is_set():
                    raise RequestsStopped("stopped")
            self._in_flight += 1
            self._cost_in_flight += most

    def release(self, request: Request) -> None:
        """The answer of the request is in the store, or the request failed."""
        with self._released:
            self._in_flight -= 1
            self._cost_in_flight -= self._most(request)
            self._released.notify_all()

    def _exceeded(self, most: float) -> str:
        """Why a request that costs at most ``most`` exceeds the budget, with those in flight; empty if not."""
        settings, store = self._settings, self._store
        if settings.max_calls is not None and len(store) + self._in_flight >= settings.max_calls:
            return (
                f"the budget of {settings.max_calls:,} answers is used up; all are kept: raise "
                "completion.max_calls and run the same command to continue"
            )
        spent = cost_of(settings, store.prompt_tokens, store.completion_tokens)
        if settings.max_cost is not None and spent + self._cost_in_flight + most > settings.max_cost:
            return (
                f"{spent:.4f} of the budget of {settings.max_cost:g} is spent and the next request could "
                f"cost up to {most:.4f}; all answers are kept: raise completion.max_cost and run the same "
                "command to continue"
            )
        return ""

    def _most(self, request: Request) -> float:
        return cost_of(self._settings, request.tokens, request.max_tokens)


@dataclass(frozen=True)
class Plan:
    """The requests that remain. least: every reply is valid; most: every sample needs all its tries.

    Repeated requests for verdicts that cannot be read are not counted. Tokens are those of ``least_calls``.
    measured: from answers in the store, else estimated.
    """

    samples: int
    completed: int
    stored: int
    least_calls: int
    most_calls: int
    prompt_tokens: int
    completion_tokens: int
    least_cost: float
    most_cost: float
    measured: bool


def plan(
    settings: CompletionSettings,
    store: AnswerStore | None,
    pending: Iterable[tuple[int, int, Request | None]],
) -> Plan:
    """The plan, from each sample's (least calls, most calls, next request or None when it is finished)."""
    samples = completed = least = most = estimated = asked = 0
    for fewest, worst, request in pending:
        samples += 1
        if request is None:
            completed += 1
            continue
        least, most, asked = least + fewest, most + worst, asked + 1
        estimated += request.tokens
    stored = len(store) if store is not None else 0
    if store is not None and stored and store.prompt_tokens:
        sent, received = store.prompt_tokens / stored, store.completion_tokens / stored
        measured = True
    else:
        sent, received = estimated / asked if asked else 0.0, float(WRITTEN_TOKENS)
        measured = False
    each = cost_of(settings, sent, received)
    return Plan(
        samples=samples,
        completed=completed,
        stored=stored,
        least_calls=least,
        most_calls=most,
        prompt_tokens=round(least * sent),
        completion_tokens=round(least * received),
        least_cost=least * each,
        most_cost=most * each,
        measured=measured,
    )


@dataclass(frozen=True)
class Usage:
    """The usage of a data set over all its builds; cost at the prices of the settings, None without prices.

    asked_without: parameters that servers refused -> answers given without them. over_limit: answers for which
    servers used more than max_tokens.
    """

    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    asked_without: Mapping[str, int] = field(default_factory=dict)
    over_limit: int = 0

    def to_json(self) -> dict[str, Any]:
        """For stats.json; counts of zero are left out."""
        without = {f"asked_without_{name}": count for name, count in self.asked_without.items()}
        over = {"over_limit": self.over_limit} if self.over_limit else {}
        rest = {
            name: value for name, value in asdict(self).items() if name not in ("asked_without", "over_limit")
        }
        return rest | without | over


def usage_of(settings: CompletionSettings, store: AnswerStore) -> Usage:
    """The usage of all answers in the store; requests in flight when a build was killed are not included."""
    priced = settings.price_input or settings.price_output
    cost = cost_of(settings, store.prompt_tokens, store.completion_tokens) if priced else None
    return Usage(
        len(store), store.prompt_tokens, store.completion_tokens, cost, dict(store.left_out), store.over_limit
    )
