"""Conversations against whoever answers: one after the other, many at once, or in rounds of requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Generic, TypeVar

from pairuni.chat.request import Answer, AskingFailed, AskingStopped, Stopping
from pairuni.io.images import ImageError
from pairuni.io.threads import thread_map
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.conversation import Asked, Conversation, Outcome

R = TypeVar("R", bound=Asked)

Begin = Callable[[], Conversation[R]]
"""Begins a sample's conversation. May raise ImageError, which drops the sample, as it does from asking."""

Ended = Callable[[int, Outcome], None]
"""Told the number of a conversation and its outcome, once, in the order in which they end."""

FAILURES_IN_A_ROW = 20
"""Samples that fail one after the other before the run stops: it is not the samples' fault."""


def in_order(
    begins: Iterable[Begin[R]], ask: Callable[[R], Answer], store: AnswerStore, ended: Ended
) -> None:
    """One request after the other, in this thread. What ``ask`` raises ends the run."""
    for number, begin in enumerate(begins):
        ended(number, _hold(begin, lambda request: _once(request, ask, store)))


def at_once(
    begins: Sequence[Begin[R]],
    ask: Callable[[R, Stopping], Answer],
    store: AnswerStore,
    ended: Ended,
    workers: int,
) -> None:
    """``workers`` conversations at a time, a thread each; every answer is stored before it is read.

    When one ``ask`` raises anything but AskingFailed and ImageError, and on Ctrl-C, no new request is sent,
    those in flight are waited for and stored, and then the exception is raised; a second Ctrl-C does not wait.
    """
    lock = threading.Lock()
    stopping = Stopping()
    keys = _KeysInFlight()
    failed_in_a_row = 0

    def answer(request: R) -> Answer:
        with keys.held(request.key):
            stored = store.get(request.key)
            if stored is not None:
                return stored
            if stopping.is_set():
                raise AskingStopped("stopped")
            return store.put(request.key, ask(request, stopping))

    def hold(number: int) -> None:
        nonlocal failed_in_a_row
        outcome = _hold(begins[number], answer)
        with lock:
            failed_in_a_row = failed_in_a_row + 1 if outcome.failed else 0
            ended(number, outcome)
            if failed_in_a_row >= FAILURES_IN_A_ROW:
                raise AskingStopped(
                    f"{FAILURES_IN_A_ROW} samples in a row failed, the last because: {outcome.reason}"
                )

    thread_map(hold, range(len(begins)), workers, stopping, finish_running=True)


def in_rounds(
    begins: Iterable[Begin[R]],
    ask_all: Callable[[Sequence[R]], Sequence[Answer | AskingFailed | ImageError | None]],
    store: AnswerStore,
    ended: Ended,
    width: int,
) -> None:
    """``width`` conversations at a time; what all of them ask next is answered together.

    ``ask_all`` gives None for what has no answer yet, and raises when it has nothing for anyone.
    """
    rest = enumerate(begins)
    talks: list[_Talk[R]] = []
    while True:
        for number, begin in islice(rest, width - len(talks)):
            talks.append(_Talk(number, begin, store))
        for talk in talks:
            if talk.outcome is not None:
                ended(talk.number, talk.outcome)
        if any(talk.outcome is not None for talk in talks):
            talks = [talk for talk in talks if talk.outcome is None]
            continue  # fill up before asking
        if not talks:
            return
        wanted = {talk.request.key: talk.request for talk in talks if talk.request is not None}
        answers = dict(zip(wanted, ask_all(list(wanted.values())), strict=True))
        for key, answer in answers.items():
            if isinstance(answer, dict):
                answers[key] = store.put(key, answer)
            elif isinstance(answer, AskingFailed):
                store.charge(*answer.spent)
        for talk in talks:
            assert talk.request is not None
            answer = answers[talk.request.key]
            if answer is not None:
                talk.hear(answer)


def next_request(begin: Begin[R], store: AnswerStore | None) -> tuple[R | None, Outcome | None]:
    """How far stored answers carry a conversation: its next request, or its outcome."""
    talk = _Talk(0, begin, store)
    return talk.request, talk.outcome


class _Talk(Generic[R]):
    """A conversation that goes on by itself as far as stored answers carry it."""

    def __init__(self, number: int, begin: Begin[R], store: AnswerStore | None) -> None:
        self.number = number
        self.request: R | None = None
        self.outcome: Outcome | None = None
        self._store = store
        try:
            self._conversation = begin()
            self._advance(lambda: next(self._conversation))
        except ImageError as error:
            self._end(Outcome(None, f"the image {error}"))

    def hear(self, answer: Answer | AskingFailed | ImageError) -> None:
        """Go on with an answer, or end without one."""
        if isinstance(answer, AskingFailed):
            self._advance(lambda: self._conversation.throw(answer))
        elif isinstance(answer, ImageError):
            self._end(Outcome(None, f"the image {answer}"))
        else:
            self._advance(lambda: self._conversation.send(answer))

    def _advance(self, step: Callable[[], R]) -> None:
        try:
            self.request = step()
            while self._store is not None:
                answer = self._store.get(self.request.key)
                if answer is None:
                    return
                self.request = self._conversation.send(answer)
        except StopIteration as end:
            self._end(end.value)

    def _end(self, outcome: Outcome) -> None:
        self.request, self.outcome = None, outcome


def _hold(begin: Begin[R], answer: Callable[[R], Answer]) -> Outcome:
    """One conversation to its end."""
    try:
        conversation = begin()
        request = next(conversation)
        while True:
            try:
                said = answer(request)
            except AskingFailed as error:
                request = conversation.throw(error)
            else:
                request = conversation.send(said)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    except ImageError as error:
        return Outcome(None, f"the image {error}")


def _once(request: R, ask: Callable[[R], Answer], store: AnswerStore) -> Answer:
    stored = store.get(request.key)
    return store.put(request.key, ask(request)) if stored is None else stored


class _KeysInFlight:
    """Two samples that ask the same thing at the same time ask it once."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._freed = threading.Condition()

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        with self._freed:
            while key in self._keys:
                self._freed.wait()
            self._keys.add(key)
        try:
            yield
        finally:
            with self._freed:
                self._keys.remove(key)
                self._freed.notify_all()
