"""The benchmarks' own files, which lie beside the repository where there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "benchmarks"


@pytest.fixture
def benchmarks() -> Path:
    if not FILES.is_dir():
        pytest.skip("the benchmarks' files are not here")
    return FILES
