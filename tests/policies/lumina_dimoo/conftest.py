"""Small random Lumina-DiMOOs for the tests of this folder, and the values stored from the original code."""

import json
from pathlib import Path
from typing import Any

import pytest

from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from pairuni.policies.lumina_dimoo.weights import load_model
from pairuni.policies.registry import load_policy
from tiny_lumina import SAMPLING, save_byte_lumina, save_tiny_lumina


@pytest.fixture(scope="session")
def original() -> dict[str, Any]:
    path = Path(__file__).parents[2] / "reference" / "lumina_dimoo.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.fixture
def lumina(tmp_path) -> LuminaDimoo:
    save_tiny_lumina(tmp_path / "lumina")
    return LuminaDimoo(*load_model(tmp_path / "lumina"))


@pytest.fixture(scope="session")
def whole_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint, which tests do not change."""
    folder = tmp_path_factory.mktemp("lumina") / "model"
    save_byte_lumina(folder, **SAMPLING)
    return folder


@pytest.fixture(scope="session")
def lumina_policy(whole_folder: Path) -> LuminaDimooPolicy:
    """A policy that tests do not change."""
    policy = load_policy(whole_folder, device="cpu")
    assert isinstance(policy, LuminaDimooPolicy)
    return policy
