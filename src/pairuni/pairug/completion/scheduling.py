"""Runs dialogues: one by one, in threads, or in rounds of requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Generic, TypeVar

from pairuni.chat.request import Answer, RequestFailed, RequestsStopped, Stopping
from pairuni.io.images import ImageError
from pairuni.io.threads import thread_map
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.dialogue import Dialogue, Keyed, Outcome

R = TypeVar("R", bound=Keyed)

Start = Callable[[], Dialogue[R]]
"""Starts a sample's dialogue. An ImageError, from here or from a request, drops the sample."""

Ended = Callable[[int, Outcome], None]
"""Called once for each dialogue, with its number and outcome, in the order in which they end."""

FAILURES_IN_A_ROW = 20
"""Consecutive samples that fail before the run stops: the cause then is not the samples."""


def in_order(
    starts: Iterable[Start[R]], ask: Callable[[R], Answer], store: AnswerStore, ended: Ended
) -> None:
    """One request after the other, in this thread. Raises what ``ask`` raises."""

    def answer(request: R) -> Answer:
        stored = store.get(request.key)
        return store.put(request.key, ask(request)) if stored is None else stored

    for number, start in enumerate(starts):
        ended(number, _run(start, answer))


def concurrently(
    starts: Sequence[Start[R]],
    ask: Callable[[R, Stopping], Answer],
    store: AnswerStore,
    ended: Ended,
    workers: int,
) -> None:
    """``workers`` dialogues at a time, each in a thread; every answer is stored before it is read.

    When ``ask`` raises anything but RequestFailed and ImageError, and on Ctrl-C, no new request is sent, answers
    of those in flight are stored, and then the exception is raised. A second Ctrl-C does not wait.
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
                raise RequestsStopped("stopped")
            return store.put(request.key, ask(request, stopping))

    def run(number: int) -> None:
        nonlocal failed_in_a_row
        outcome = _run(starts[number], answer)
        with lock:
            failed_in_a_row = failed_in_a_row + 1 if outcome.failed else 0
            ended(number, outcome)
            if failed_in_a_row >= FAILURES_IN_A_ROW:
                raise RequestsStopped(
                    f"{FAILURES_IN_A_ROW} samples in a row failed, the last because: {outcome.reason}"
                )

    thread_map(run, range(len(starts)), workers, stopping, finish_running=True)


def in_rounds(
    starts: Iterable[Start[R]],
    ask_all: Callable[[Sequence[R]], Sequence[Answer | RequestFailed | ImageError | None]],
    store: AnswerStore,
    ended: Ended,
    width: int,
) -> None:
    """``width`` dialogues at a time, whose next requests are answered together.

    ``ask_all`` returns None for a request that has no answer yet, and raises when no request has one.
    """
    rest = enumerate(starts)
    open_dialogues: list[_OpenDialogue[R]] = []
    while True:
        for number, start in islice(rest, width - len(open_dialogues)):
            open_dialogues.append(_OpenDialogue(number, start, store))
        for one in open_dialogues:
            if one.outcome is not None:
                ended(one.number, one.outcome)
        if any(one.outcome is not None for one in open_dialogues):
            open_dialogues = [one for one in open_dialogues if one.outcome is None]
            continue  # start others first, so that a round is as large as possible
        if not open_dialogues:
            return
        wanted = {one.request.key: one.request for one in open_dialogues if one.request is not None}
        answers = dict(zip(wanted, ask_all(list(wanted.values())), strict=True))
        for key, answer in answers.items():
            if isinstance(answer, dict):
                answers[key] = store.put(key, answer)
            elif isinstance(answer, RequestFailed):
                store.charge(*answer.spent)
        for one in open_dialogues:
            assert one.request is not None
            answer = answers[one.request.key]
            if answer is not None:
                one.receive(answer)


def next_request(start: Start[R], store: AnswerStore | None) -> tuple[R | None, Outcome | None]:
    """The first request of a dialogue that has no stored answer, or else its outcome."""
    opened = _OpenDialogue(0, start, store)
    return opened.request, opened.outcome


class _OpenDialogue(Generic[R]):
    """A dialogue that continues by itself as long as its answers are stored."""

    def __init__(self, number: int, start: Start[R], store: AnswerStore | None) -> None:
        self.number = number
        self.request: R | None = None
        self.outcome: Outcome | None = None
        self._store = store
        try:
            self._dialogue = start()
            self._advance(lambda: next(self._dialogue))
        except ImageError as error:
            self._end(_unusable_image(error))

    def receive(self, answer: Answer | RequestFailed | ImageError) -> None:
        """Continue with an answer, or end without one."""
        if isinstance(answer, RequestFailed):
            self._advance(lambda: self._dialogue.throw(answer))
        elif isinstance(answer, ImageError):
            self._end(_unusable_image(answer))
        else:
            self._advance(lambda: self._dialogue.send(answer))

    def _advance(self, step: Callable[[], R]) -> None:
        try:
            self.request = step()
            while self._store is not None:
                answer = self._store.get(self.request.key)
                if answer is None:
                    return
                self.request = self._dialogue.send(answer)
        except StopIteration as end:
            self._end(end.value)

    def _end(self, outcome: Outcome) -> None:
        self.request, self.outcome = None, outcome


def _run(start: Start[R], answer: Callable[[R], Answer]) -> Outcome:
    """One dialogue to its end."""
    try:
        dialogue = start()
        request = next(dialogue)
        while True:
            try:
                said = answer(request)
            except RequestFailed as error:
                request = dialogue.throw(error)
            else:
                request = dialogue.send(said)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    except ImageError as error:
        return _unusable_image(error)


def _unusable_image(error: ImageError) -> Outcome:
    return Outcome(None, f"the image {error}")


class _KeysInFlight:
    """Sends equal requests of concurrent samples only once: the later one waits for the answer of the first."""

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
