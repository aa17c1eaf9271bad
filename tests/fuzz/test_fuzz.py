"""Damaged and hostile input to every reader gives a result, or one error that the commands print as a sentence.

No other exceptions, at most five seconds of CPU time per input, and nothing written outside of the input folder. The
default run tries a few inputs of each kind; ``-m slow`` tries over 20,000.
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
MANY = 2_300


class TooSlow(BaseException):
    """Not an Exception, so that no reader swallows it."""


@contextmanager
def limited() -> Iterator[None]:
    """Interrupt work that takes five seconds of CPU time, independent of the load, or blocks for a minute."""

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
def intact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Target, Path]:
    target: Target = request.param
    folder = tmp_path_factory.mktemp("intact") / "given"
    folder.mkdir()
    target.make(folder)
    return target, folder


def run_one(target: Target, intact: Path, place: Path, seed: int) -> str:
    """The outcome of one input: "read" or the type of error. Raises AssertionError with its name for anything else."""
    rng = random.Random(seed)
    given = place / "given"
    shutil.copytree(intact, given)
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
            raise AssertionError(f"{what}: {outcome} is not a sentence for users: {error}") from error
    except TooSlow as error:
        raise AssertionError(f"{what}: {error}") from error
    except BaseException as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:300]}") from error
    beside = [path.name for path in place.iterdir() if path.name != "given"]
    assert not beside, f"{what}: wrote {beside} outside of the folder that it was given"
    shutil.rmtree(given)
    return outcome


def run_many(target: Target, intact: Path, place: Path, count: int) -> None:
    start = zlib.crc32(target.name.encode())
    outcomes = [run_one(target, intact, place, start + number) for number in range(count)]
    assert set(outcomes) != {"read"}, f"damage to {target.name} was never noticed in {count} inputs"


def pytest_ids(target: Target) -> str:
    return target.name


@pytest.mark.parametrize("intact", TARGETS, indirect=True, ids=pytest_ids)
def test_intact_input_is_read(intact: tuple[Target, Path]) -> None:
    target, folder = intact
    with limited():
        target.use(folder)


@pytest.mark.parametrize("intact", TARGETS, indirect=True, ids=pytest_ids)
def test_damaged_input_is_a_result_or_a_sentence(intact: tuple[Target, Path], tmp_path: Path) -> None:
    run_many(*intact, tmp_path, intact[0].quick)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("intact", TARGETS, indirect=True, ids=pytest_ids)
def test_many_damaged_inputs(intact: tuple[Target, Path], tmp_path: Path) -> None:
    run_many(*intact, tmp_path, MANY)
