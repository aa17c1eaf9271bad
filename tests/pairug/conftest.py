"""One build that many tests read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from colour_world import build, world
from pairuni.config import PairsSettings
from pairuni.pairug.build import BuildSummary


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
