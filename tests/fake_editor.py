"""A policy that edits images by a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from PIL import Image

from fake_policy import FakePolicy
from pairuni.policies.requests import EditSampling


class FakeEditor(FakePolicy):
    """``rule(image, instruction)`` is the edited image; ``requests`` has every request."""

    name = "editor"
    edits = True

    def __init__(self, rule: Callable[[Image.Image, str], Image.Image]) -> None:
        super().__init__()
        self.rule, self.requests = rule, list[EditSampling]()

    def sample_edits(self, request: EditSampling) -> Any:
        assert all(image.mode == "RGB" for image in request.images)
        self.requests.append(request)
        edits = zip(request.images, request.instructions, strict=True)
        return [
            [SimpleNamespace(image=self.rule(image, instruction))] * request.rollouts
            for image, instruction in edits
        ]

    def decode_images(self, trajectories: Sequence[Any]) -> list[Image.Image]:
        return [trajectory.image for trajectory in trajectories]
