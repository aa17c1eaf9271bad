"""The benchmarks' own files, which lie beside the repository where there are any, and stand-ins for their images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_runs import loaded_once
from PIL import Image

FILES = Path(__file__).resolve().parents[2].parent / "shared" / "benchmarks"


@pytest.fixture
def benchmarks() -> Path:
    if not FILES.is_dir():
        pytest.skip("the benchmarks' files are not here")
    return FILES


@pytest.fixture(autouse=True)
def models_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairuni.evaluation.model.load_model", loaded_once)


@pytest.fixture(scope="session")
def coco_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image under each name that POPE asks for."""
    folder = tmp_path_factory.mktemp("val2014")
    rows = [json.loads(line) for path in FILES.glob("pope/*.json") for line in path.read_text().splitlines()]
    for number, name in enumerate(sorted({row["image"] for row in rows})):
        Image.new("RGB", (24, 16), (number % 256, number * 7 % 256, 40)).save(folder / name)
    return folder
