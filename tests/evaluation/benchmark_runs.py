"""Runs of benchmarks: with the tiny model, with a policy that answers by a rule, and killed in the middle."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.distributed.shares import Share
from pairuni.evaluation.benchmark import Benchmark, run_benchmark
from pairuni.evaluation.model import Model
from pairuni.evaluation.result import Result
from pairuni.policies.requests import TextSampling
from pairuni.runs.models import load_model

loaded_once = functools.cache(load_model)
"""``load_model`` for tests that load the same model again and again."""


class Echo:
    """A policy that answers questions by a rule and keeps what it was asked."""

    several_images = False

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply, self.asked = reply, list[tuple[Any, str]]()

    def sample_text(self, request: TextSampling) -> Any:
        assert request.temperature == 0.0
        assert all(image.mode == "RGB" for images in request.shown for image in images)
        assert all(images is not None for images in request.images)
        self.asked += zip(request.images, request.questions, strict=True)
        return [
            [SimpleNamespace(text=self.reply(question), finished="cut" not in question)]
            for question in request.questions
        ]


def model_of(policy: object, **settings: Any) -> Model:
    """A model whose weights are not loaded."""
    model = Model(name="tiny", device="cpu", **settings)
    model.__dict__["policy"] = policy
    return model


def tiny(batch_size: int = 32) -> Model:
    return model_of(loaded_once("tiny", device="cpu", dtype="auto"), batch_size=batch_size)


def run_alone(benchmark: Benchmark, out: Path, model: Model | None = None) -> list[Result]:
    """Run a benchmark in this process, by default with the tiny model."""
    results = run_benchmark(benchmark, model or tiny(), out, Share())
    assert results is not None
    return results


def evaluate(*words: object, code: int = 0) -> str:
    """The output of ``pairuni eval``."""
    ended = CliRunner().invoke(app, ["eval", *map(str, words)])
    assert ended.exit_code == code, ended.output
    return ended.output


def recorded(folder: Path) -> Sequence[str]:
    """Keys of all complete lines that all processes have recorded, in order."""
    lines = [
        line
        for path in sorted(folder.glob("records-*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [json.loads(line)["key"] for line in lines]


class Killed:
    """Runs ``pairuni eval`` in forked processes, without new imports, and kills one in the middle."""

    def __init__(self, folder: Path, *words: object, world_size: int = 1) -> None:
        self.folder, self.words, self.world_size = folder, words, world_size

    def start(self, rank: int = 0) -> BaseProcess:
        running = get_context("fork").Process(target=self._run, args=(rank,))
        running.start()
        return running

    def _run(self, rank: int) -> None:
        if self.world_size > 1:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(self.world_size), "LOCAL_RANK": str(rank)}
        # torch recreates its thread pool after a fork, on first use and without a lock: do so before threads start
        torch.set_num_threads(torch.get_num_threads())
        ended = CliRunner().invoke(app, ["eval", *map(str, self.words)])
        (self.folder / f"said-{rank}").write_text(ended.stdout)
        sys.exit(ended.exit_code)

    def kill_when(self, reached: Callable[[], bool], *, seconds: float = 60.0) -> None:
        """Start and kill by SIGKILL as soon as ``reached`` says so; an end before that is a failure."""
        running = self.start()
        deadline = time.monotonic() + seconds
        while not reached():
            assert running.is_alive(), "ended before it was killed"
            assert time.monotonic() < deadline, "never got there"
            time.sleep(0.002)
        running.kill()
        running.join()
        assert running.exitcode == -signal.SIGKILL

    def finish(self) -> str:
        """Run to the end; what the first process printed."""
        all_running = [self.start(rank) for rank in range(self.world_size)]
        for running in all_running:
            running.join(timeout=120)
        assert [running.exitcode for running in all_running] == [0] * self.world_size
        return (self.folder / "said-0").read_text()
