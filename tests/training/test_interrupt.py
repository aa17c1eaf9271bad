"""Signals as requests to stop: none is lost, none cuts what must be whole."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from pairuni.training.interrupt import StopRequest


@pytest.fixture(autouse=True)
def not_under_nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number: signal.Signals) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_is_a_request_and_the_second_an_interrupt(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        send(number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_single_one_ends_a_blocking_read_in_the_end(number: signal.Signals) -> None:
    reads, writes = os.pipe()
    timer = threading.Timer(0.1, send, [number])
    began = time.monotonic()
    with StopRequest(grace=0.3) as stop:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            os.read(reads, 1)
    assert stop.requested
    assert time.monotonic() - began >= 0.3
    os.close(reads)
    os.close(writes)


def test_an_end_in_time_is_not_interrupted() -> None:
    with StopRequest(grace=0.1):
        send(signal.SIGTERM)
    time.sleep(0.3)


def test_what_must_be_whole_is_not_cut() -> None:
    with StopRequest() as stop:
        stop.hold()
        for _ in range(3):
            send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.release()
        stop.hold()
        stop.release()


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            send(signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)
