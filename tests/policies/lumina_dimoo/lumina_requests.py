"""Small requests for rollouts of Lumina-DiMOO, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from pairuni.policies.lumina_dimoo.trajectories import LuminaTrajectory
from pairuni.policies.requests import EditSampling, ImageSampling, TextSampling

SQUARE = Image.radial_gradient("L").convert("RGB")
WIDE = Image.linear_gradient("L").convert("RGB").resize((60, 20))
HIGH = Image.new("RGB", (10, 21), "red")


def texts(**changes: Any) -> TextSampling:
    settings = {
        "images": [SQUARE, WIDE, None],
        "questions": ["what?", "how many?", "why"],
        "rollouts": 2,
        "temperature": 0.9,
        "max_new_tokens": 10,
        "seed": 3,
    }
    return TextSampling(**(settings | changes))


def drawings(**changes: Any) -> ImageSampling:
    settings = {"prompts": ["a cat", "two dogs"], "rollouts": 3, "guidance": 3.0, "seed": 4}
    return ImageSampling(**(settings | changes))


def edits(**changes: Any) -> EditSampling:
    settings = {
        "images": [SQUARE, WIDE, HIGH],
        "instructions": ["make it blue", "add a dog", "no"],
        "rollouts": 2,
        "guidance": 2.0,
        "image_guidance": 1.5,
        "temperature": 1.2,
    }
    return EditSampling(**(settings | changes))


def rollouts(policy: LuminaDimooPolicy, **changes: Any) -> list[LuminaTrajectory]:
    """Answers, drawings and edits; changes: of the branch of drawings and edits, for example."""
    answers, drawn = policy.sample(texts(), drawings(**changes))
    return flat([*answers, *drawn, *policy.sample_edits(edits(**changes))])


def flat(groups: Sequence[Sequence[LuminaTrajectory]]) -> list[LuminaTrajectory]:
    return [one for group in groups for one in group]


def assert_same(found: Sequence[LuminaTrajectory], expected: Sequence[LuminaTrajectory]) -> None:
    """The same samples and decisions; log-probs are close."""
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.trace.choices, other.trace.choices)
        assert torch.equal(one.trace.steps, other.trace.steps)
        assert one.trace.mask_seed == other.trace.mask_seed
        torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)
