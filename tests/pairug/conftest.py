"""One build that many tests read, and completion at a local server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from colour_world import build, world
from completion_samples import complete_at
from pairuni.config import PairsSettings
from pairuni.pairug.build import BuildSummary
from pairuni.pairug.completion.completion import CompletionReport


@dataclass(frozen=True)
class Built:
    """A finished build, not to be changed. progress: the arguments of every call of ``advance``."""

    settings: PairsSettings
    summary: BuildSummary
    progress: list[tuple[str, int, int]]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    settings = world(tmp_path_factory.mktemp("built"))
    progress: list[tuple[str, int, int]] = []
    summary = build(settings, advance=lambda *told: progress.append(told))
    return Built(settings, summary, progress)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., CompletionReport]:
    """Completes samples at a server; answers stay in the folder of the test."""
    return partial(complete_at, folder=tmp_path)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
