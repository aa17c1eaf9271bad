"""The benchmarks' own files, which lie beside the repository where there are any, and stand-ins for their images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "benchmarks"


@pytest.fixture
def benchmarks() -> Path:
    if not FILES.is_dir():
        pytest.skip("the benchmarks' files are not here")
    return FILES


@pytest.fixture(scope="session")
def coco_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image under each name that POPE asks for."""
    folder = tmp_path_factory.mktemp("val2014")
    rows = [json.loads(line) for path in FILES.glob("pope/*.json") for line in path.read_text().splitlines()]
    for number, name in enumerate(sorted({row["image"] for row in rows})):
        Image.new("RGB", (24, 16), (number % 256, number * 7 % 256, 40)).save(folder / name)
    return folder


class Killed:
    """Runs ``pairuni`` in a process of its own, as a user would, and kills it in the middle."""

    def __init__(self, *words: str, world_size: int = 1) -> None:
        self.words, self.world_size = words, world_size

    def start(self, rank: int = 0) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        if self.world_size > 1:
            environment |= {"RANK": str(rank), "WORLD_SIZE": str(self.world_size), "LOCAL_RANK": str(rank)}
        return subprocess.Popen(
            [sys.executable, "-m", "pairuni", *self.words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_when(self, reached: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Start and kill by SIGKILL as soon as ``reached`` says so; an end before that is a failure."""
        running = self.start()
        deadline = time.monotonic() + seconds
        while not reached():
            assert running.poll() is None, f"ended before it was killed: {running.communicate()}"
            assert time.monotonic() < deadline, "never got there"
            time.sleep(0.002)
        running.kill()
        running.communicate()
        assert running.returncode == -signal.SIGKILL

    def finish(self) -> str:
        """Run to the end; what it printed."""
        all_running = [self.start(rank) for rank in range(self.world_size)]
        ends = [running.communicate(timeout=120) for running in all_running]
        assert all(running.returncode == 0 for running in all_running), ends
        return ends[0][0]


def recorded_keys(folder: Path) -> list[str]:
    """Keys of all whole lines that all processes have written down, in order."""
    lines = [
        line
        for path in sorted(folder.glob("records-*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [json.loads(line)["key"] for line in lines]


@pytest.fixture
def killed() -> type[Killed]:
    return Killed


@pytest.fixture
def recorded() -> Callable[[Path], Sequence[str]]:
    return recorded_keys
