"""What ranks know of each other apart from their exchanges: who is alive, where each one is, and who has failed."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch.distributed as dist

from pairuni.distributed.shares import Share

logger = logging.getLogger("pairuni")

BEAT = 1.0
"""Seconds between two signs of life of a rank."""
_SILENCE = 5.0
"""Seconds without a sign of life after which a rank whose connection broke counts as gone."""
_PATIENCE = 60.0
"""Seconds that a rank has to leave after another has failed; then its process ends."""
_SAVING = 900.0
"""Seconds that ranks wait for rank 0 to save the run after a failure."""


class LostRanks(RuntimeError):
    """Ranks did not come to an exchange or are gone; the message names them."""


class OtherRankFailed(RuntimeError):
    """Another rank ended with an error; the message is its rank and its sentence."""


class Watch:
    """Publishes this rank's state in the rendezvous store from a thread, and reads that of the others."""

    def __init__(self, store: dist.Store, share: Share) -> None:
        self.arrivals = 0
        """Exchanges that this rank has come to."""
        self.patient = False
        """Whether the current wait has no time limit, because rank 0 does something of unknown length."""
        self.speaks = share.rank == 0
        """Whether this rank tells the user why the run failed; known after ``leave``."""
        self._store, self._share = store, share
        # a separate connection, because a store serves one request at a time
        self._beats: dist.Store = store.clone()  # type: ignore[attr-defined]
        self._phase = "start"
        self._joint: tuple[float, float] | None = None
        self._beat = 0
        self._aware = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="pairuni-watch", daemon=True)

    def start(self) -> None:
        self._publish(self._store)
        self._thread.start()

    def enter(self, phase: str, limit: float | None = None) -> None:
        """Begin a phase; the process ends if it takes longer than ``limit`` seconds."""
        self._phase = phase
        self._joint = None if limit is None else (time.monotonic(), limit)
        with suppress(RuntimeError):  # without a store, the next exchange fails
            self._publish(self._store)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Waits inside are not limited; a rank that fails or dies still ends them."""
        self.patient = True
        try:
            yield
        finally:
            self.patient = False

    def fail(self, error: BaseException) -> None:
        """Tell the others; the first failure of a run counts."""
        self._aware = True
        if isinstance(error, OtherRankFailed):
            return
        # those that were lost are not this rank's fault
        sentence = (
            f"{error}" if isinstance(error, LostRanks) else f"rank {self._share.rank}: {_sentence(error)}"
        )
        stopped = isinstance(error, KeyboardInterrupt)
        record = json.dumps({"rank": self._share.rank, "sentence": sentence, "stopped": stopped})
        try:
            self._store.compare_set("failed", "", record)
        except RuntimeError:
            logger.debug("the rendezvous store is gone")

    def raise_failure(self) -> None:
        """Raise OtherRankFailed, or KeyboardInterrupt, if another rank has failed."""
        failure = self._failure(self._store)
        if failure is None or failure["rank"] == self._share.rank:
            return
        self._aware = True
        if failure["stopped"]:
            raise KeyboardInterrupt
        raise OtherRankFailed(failure["sentence"])

    def missing(self, timeout: float) -> str:
        """The sentence for an exchange to which some ranks have not come within ``timeout`` seconds."""
        states = self._states()
        late = [rank for rank, state in states.items() if state.get("arrivals", 0) < self.arrivals]
        if not late:
            return f"the ranks could not exchange data within {timeout:g} seconds (distributed.timeout)"
        where = "; ".join(self._where(rank, states[rank]) for rank in late)
        return (
            f"{named_ranks(late)} did not come to the exchange of {self._phase} within {timeout:g} seconds "
            f"(distributed.timeout): {where}"
        )

    def gone(self) -> str:
        """The sentence for a broken connection: which ranks give no sign of life."""
        try:
            before = self._states()
            deadline = time.monotonic() + _SILENCE
            while time.monotonic() < deadline:
                time.sleep(BEAT / 4)
                self.raise_failure()
                after = self._states()
                silent = [rank for rank in after if after[rank].get("beat") == before[rank].get("beat")]
                if not silent:
                    break
        except RuntimeError as error:
            if isinstance(error, OtherRankFailed):
                raise
            return f"{self._phase}: the connection to the other ranks, or to torchrun, is lost"
        if not silent:
            return f"{self._phase}: the connection between the ranks broke"
        last = "; ".join(self._where(rank, before[rank]) for rank in silent)
        verb = "is" if len(silent) == 1 else "are"
        return f"{named_ranks(silent)} {verb} gone, and the run cannot go on without: {last}"

    def leave(self, *, orderly: bool) -> None:
        """Stop the thread. After a failure, ranks other than 0 stay until rank 0 has left, or is dead."""
        try:
            if self._share.rank == 0:
                self._store.set("left", "1")
            elif not orderly and not self._main_has_left():
                self.speaks = self._store.add("told", 1) == 1
        except RuntimeError:
            self.speaks = True  # the store is gone, and rank 0 may be
        self._stop.set()
        self._thread.join(timeout=2 * BEAT)

    def _main_has_left(self) -> bool:
        """Wait until rank 0 has saved the run and left; false if it gives no sign of life."""
        deadline = time.monotonic() + _SAVING
        beat, heard = None, time.monotonic()
        while time.monotonic() < deadline and not self._store.check(["left"]):
            now = self._state(0).get("beat")
            if now != beat:
                beat, heard = now, time.monotonic()
            if time.monotonic() - heard > _SILENCE:
                return False
            time.sleep(BEAT / 4)
        left = self._store.check(["left"])
        if left:
            # torchrun stops rank 0, which is about to print the error, when this process ends
            time.sleep(2 * BEAT)
        return left

    def _live(self) -> None:
        since = None
        while not self._stop.wait(BEAT):
            self._beat += 1
            try:
                self._publish(self._beats)
                failure = self._failure(self._beats)
            except RuntimeError:
                return  # the store is gone, and exchanges will say so
            if failure is None:
                if self._joint is not None and time.monotonic() - self._joint[0] > self._joint[1]:
                    self._end_stuck(self._joint[1])
                continue
            since = since or time.monotonic()
            if not self._aware and time.monotonic() - since > _PATIENCE:
                os._exit(1)  # the main thread is stuck, as in an exchange of NCCL

    def _end_stuck(self, limit: float) -> None:
        """End this process, whose main thread is in an exchange of torch; the first one to do so says why."""
        states = {rank: self._state(rank, self._beats) for rank in range(self._share.world_size)}
        where = "; ".join(self._where(rank, state) for rank, state in states.items())
        sentence = (
            f"{self._phase}: the ranks waited longer than {limit:g} seconds (distributed.timeout): {where}"
        )
        record = json.dumps({"rank": self._share.rank, "sentence": sentence, "stopped": False})
        if self._beats.compare_set("failed", "", record).decode() == record:
            logger.error(sentence)
            sys.stderr.write(f"error: {sentence}\n")
            sys.stderr.flush()
        os._exit(1)

    def _publish(self, store: dist.Store) -> None:
        state = {"beat": self._beat, "phase": self._phase, "arrivals": self.arrivals}
        store.set(f"state/{self._share.rank}", json.dumps(state))

    def _failure(self, store: dist.Store) -> dict[str, Any] | None:
        if not store.check(["failed"]):
            return None
        found: dict[str, Any] = json.loads(store.get("failed"))
        return found

    def _states(self) -> dict[int, dict[str, Any]]:
        others = (rank for rank in range(self._share.world_size) if rank != self._share.rank)
        return {rank: self._state(rank) for rank in others}

    def _state(self, rank: int, store: dist.Store | None = None) -> dict[str, Any]:
        key, store = f"state/{rank}", store or self._store
        found: dict[str, Any] = json.loads(store.get(key)) if store.check([key]) else {}
        return found

    def _where(self, rank: int, state: dict[str, Any]) -> str:
        return f"rank {rank} was at {state['phase']}" if state else f"rank {rank} never started"


def named_ranks(ranks: list[int]) -> str:
    """rank 3, or ranks 1, 2 and 3."""
    names = [str(rank) for rank in ranks]
    return f"rank {names[0]}" if len(names) == 1 else f"ranks {', '.join(names[:-1])} and {names[-1]}"


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
    return str(error).strip() or type(error).__name__
