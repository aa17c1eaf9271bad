"""What every policy has for image editing."""

from __future__ import annotations

import pytest
from PIL import Image

from fake_editor import FakeEditor
from fake_policy import FakePolicy
from pairuni.policies.requests import CannotEdit, EditSampling

BLACK = Image.new("RGB", (2, 2))


def test_a_policy_without_editing_refuses() -> None:
    policy = FakePolicy()
    assert not policy.edits
    message = "The policy fake cannot edit images; choose a model that can, such as Lumina-DiMOO."
    for edit in (
        lambda: policy.edit_image(BLACK, "make it red"),
        lambda: policy.sample_edits(
            EditSampling(images=[BLACK], instructions=["make it red"], guidance=1.0, image_guidance=1.0)
        ),
    ):
        with pytest.raises(CannotEdit) as raised:
            edit()
        assert str(raised.value) == message
        assert isinstance(raised.value, ValueError)


def test_one_image_is_edited_with_the_guidance_of_the_policy_or_of_the_caller() -> None:
    policy = FakeEditor(lambda image, instruction: Image.new("RGB", image.size, instruction))
    assert policy.edit_image(BLACK, "red").getpixel((0, 0)) == (255, 0, 0)
    policy.edit_image(BLACK, "blue", guidance=2.0, image_guidance=1.0, temperature=0.5, seed=7)
    assert policy.requests == [
        EditSampling(images=[BLACK], instructions=["red"], guidance=3.5, image_guidance=5.0),
        EditSampling(
            images=[BLACK], instructions=["blue"], guidance=2.0, image_guidance=1.0, temperature=0.5, seed=7
        ),
    ]
    assert (policy.requests[0].rollouts, policy.requests[0].temperature, policy.requests[0].seed) == (
        1,
        1.0,
        0,
    )
