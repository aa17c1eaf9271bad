"""What completion takes and may take: tokens and money, a budget, and the plan of a dry run."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pairuni.chat.request import AskingStopped, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.requests import Request

WRITTEN_TOKENS = 300
"""Tokens of a reply before any was measured."""


class CompletionPaused(RuntimeError):
    """Completion stopped on purpose with its work saved; the sentence says how to go on."""


def cost_of(settings: CompletionSettings, prompt_tokens: float, completion_tokens: float) -> float:
    """In the currency of the prices, which are of a million tokens."""
    sent = prompt_tokens * settings.price_input
    return (sent + completion_tokens * settings.price_output) / 1e6


class Budget:
    """Keeps answers and money of a data set, over all its builds, within what is allowed. Safe between threads.

    Money counts as spent by the tokens that the server charged; requests in flight count with the longest
    reply, so that the budget holds whatever comes back. Near its end, requests wait for those in flight.
    """

    def __init__(self, settings: CompletionSettings, store: AnswerStore) -> None:
        self._settings = settings
        self._store = store
        self._room = threading.Condition()
        self._flying = 0
        self._flying_cost = 0.0

    def reserve(self, request: Request, stopping: Stopping | None = None) -> None:
        """Make room for a request, once requests in flight have come down where they leave none.

        Raises CompletionPaused when the budget has no room, AskingStopped on ``stopping``. Without ``stopping``
        nothing comes down, and nobody waits.
        """
        most = self._most(request)
        with self._room:
            while reason := self._without_room(most):
                if not self._flying or stopping is None:
                    raise CompletionPaused(reason)
                # nobody tells a condition that a run stops, so it looks for itself
                self._room.wait(0.2)
                if stopping.is_set():
                    raise AskingStopped("stopped")
            self._flying += 1
            self._flying_cost += most

    def release(self, request: Request) -> None:
        """The request has its answer in the store, or will have none."""
        with self._room:
            self._flying -= 1
            self._flying_cost -= self._most(request)
            self._room.notify_all()

    def _without_room(self, most: float) -> str:
        """Why a request that costs at most ``most`` does not fit beside those in flight; empty when it does."""
        settings, store = self._settings, self._store
        if settings.max_calls is not None and len(store) + self._flying >= settings.max_calls:
            return (
                f"the budget of {settings.max_calls:,} answers is used up; all are kept: raise "
                "completion.max_calls and run the same command to go on"
            )
        spent = cost_of(settings, store.prompt_tokens, store.completion_tokens)
        if settings.max_cost is not None and spent + self._flying_cost + most > settings.max_cost:
            return (
                f"{spent:.4f} of the budget of {settings.max_cost:g} is spent and the next request could "
                f"take up to {most:.4f}; all answers are kept: raise completion.max_cost and run the same "
                "command to go on"
            )
        return ""

    def _most(self, request: Request) -> float:
        return cost_of(self._settings, request.tokens, request.max_tokens)


@dataclass(frozen=True)
class Plan:
    """What is still to be asked. least: every reply good at once; most: every sample takes all its tries.

    Verdicts that cannot be read, and are asked for again, come on top.
    Tokens are those of the least number of calls. measured: from answers in the store, else estimated.
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
    """Of each sample's (least calls, most calls, next request; none when it has ended)."""
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
    """What a data set has taken so far, over all its builds; cost at the prices of the settings, None without
    any.

    asked_without: parameters that servers refused -> answers given without them. over_limit: answers on which servers
    spent more tokens than max_tokens.
    """

    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    asked_without: Mapping[str, int] = field(default_factory=dict)
    over_limit: int = 0

    def to_json(self) -> dict[str, Any]:
        """As statistics hold it: what did not happen is left out."""
        without = {f"asked_without_{name}": count for name, count in self.asked_without.items()}
        over = {"over_limit": self.over_limit} if self.over_limit else {}
        whole = {
            name: value for name, value in asdict(self).items() if name not in ("asked_without", "over_limit")
        }
        return whole | without | over


def usage_of(settings: CompletionSettings, store: AnswerStore) -> Usage:
    """Of all answers in the store. What was in flight at a kill is not among them."""
    priced = settings.price_input or settings.price_output
    cost = cost_of(settings, store.prompt_tokens, store.completion_tokens) if priced else None
    return Usage(
        len(store), store.prompt_tokens, store.completion_tokens, cost, dict(store.left_out), store.over_limit
    )
