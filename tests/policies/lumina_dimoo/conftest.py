"""One small random Lumina-DiMOO for the tests of this folder, and the values stored from the original code."""

import json
from pathlib import Path
from typing import Any

import pytest

from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from pairuni.policies.lumina_dimoo.weights import load_model
from tiny_lumina import save_tiny_lumina


@pytest.fixture(scope="session")
def original() -> dict[str, Any]:
    path = Path(__file__).parents[2] / "reference" / "lumina_dimoo.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.fixture
def lumina(tmp_path) -> LuminaDimoo:
    save_tiny_lumina(tmp_path / "lumina")
    return LuminaDimoo(*load_model(tmp_path / "lumina"))
