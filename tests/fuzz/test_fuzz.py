"""Damaged and hostile input to every reader: a result or one error that the commands print as a sentence.

No other exception, no run of more than five seconds of this process, nothing written beside the input. The
default run takes a few inputs of each kind; ``-m slow`` takes over 20,000.
"""

from __future__ import annotations

import random
import shutil
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from fuzz.mutations import damaged
from fuzz.targets import SENTENCES, TARGETS, Target

SECONDS = 5.0
WALL_SECONDS = 60.0
QUICK = 60
MANY = 2_300


class TooSlow(BaseException):
    """Not an Exception, so that no reader swallows it."""


@contextmanager
def limited() -> Iterator[None]:
    """Interrupt what computes for five seconds, whatever else the machine does, or blocks for a minute."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"over {SECONDS if number == signal.SIGPROF else WALL_SECONDS} s")

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WALL_SECONDS),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    try:
        for timer, seconds in timers.values():
            signal.setitimer(timer, seconds)
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Target, Path]:
    target: Target = request.param
    folder = tmp_path_factory.mktemp("whole") / "given"
    folder.mkdir()
    target.make(folder)
    return target, folder


def run_one(target: Target, whole: Path, place: Path, seed: int) -> str:
    """What came of one input: "read", or the kind of error. Raises AssertionError, naming the input, for the rest."""
    rng = random.Random(seed)
    given = place / "given"
    shutil.copytree(whole, given)
    files = sorted(path for path in given.rglob("*") if path.is_file() and path.match(target.damage))
    chosen = rng.choice(files)
    chosen.write_bytes(damaged(chosen.read_bytes(), rng, is_json=chosen.suffix in {".json", ".jsonl"}))
    what = f"{target.name}, input {seed} ({chosen.relative_to(given)} damaged)"
    try:
        with limited():
            target.use(given)
        outcome = "read"
    except SENTENCES as error:
        outcome = type(error).__name__
        if isinstance(error, UnicodeError) or not str(error).strip():
            raise AssertionError(f"{what}: {outcome} is no sentence for a person: {error}") from error
    except TooSlow as error:
        raise AssertionError(f"{what}: {error}") from error
    except BaseException as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:300]}") from error
    beside = [path.name for path in place.iterdir() if path.name != "given"]
    assert not beside, f"{what}: wrote {beside} beside the folder that it was given"
    shutil.rmtree(given)
    return outcome


def run_many(target: Target, whole: Path, place: Path, count: int) -> None:
    start = zlib.crc32(target.name.encode())
    outcomes = [run_one(target, whole, place, start + number) for number in range(count)]
    assert set(outcomes) != {"read"}, f"no damage to {target.name} was noticed in {count} inputs"


def pytest_ids(target: Target) -> str:
    return target.name


@pytest.mark.parametrize("whole", TARGETS, indirect=True, ids=pytest_ids)
def test_whole_input_is_read(whole: tuple[Target, Path]) -> None:
    target, folder = whole
    with limited():
        target.use(folder)


@pytest.mark.parametrize("whole", TARGETS, indirect=True, ids=pytest_ids)
def test_damaged_input_is_a_result_or_a_sentence(whole: tuple[Target, Path], tmp_path: Path) -> None:
    run_many(*whole, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("whole", TARGETS, indirect=True, ids=pytest_ids)
def test_many_damaged_inputs(whole: tuple[Target, Path], tmp_path: Path) -> None:
    run_many(*whole, tmp_path, MANY)
