"""One tiny random policy for all tests that do not change it."""

import pytest
from PIL import Image

from pairuni.policies.janus.policy import JanusPolicy
from tiny_models import tiny_janus

PROMPTS = ["a", "a cat on a mat", "two red dogs and one blue digit"]


@pytest.fixture(scope="session")
def policy() -> JanusPolicy:
    model, processor = tiny_janus()
    return JanusPolicy(model, processor)


@pytest.fixture
def fresh_policy() -> JanusPolicy:
    """A policy that a test may train or change."""
    model, processor = tiny_janus()
    return JanusPolicy(model, processor)


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    return [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (20, 28), "blue"), Image.radial_gradient("L")]


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    """Generation prompts of three lengths."""
    return PROMPTS
