"""Bytes and operations by arithmetic, against counts made by hand and by walking through the steps."""

import pytest

from benchmarks.cost import Group, Sizes, decode_bytes, sizes_of, update_flops
from benchmarks.shapes import SHAPES, byte_processor, janus_config


@pytest.fixture(scope="module", params=list(SHAPES))
def janus_pro(request):
    import torch
    from transformers import JanusForConditionalGeneration

    shape = SHAPES[request.param]
    with torch.device("meta"):
        model = JanusForConditionalGeneration(janus_config(shape, byte_processor(shape), shape.vocabulary))
    return request.param, sizes_of(model)


def test_sizes_of_janus_pro(janus_pro):
    """Blocks by the formula of a Llama layer: four attention matrices, three of the MLP, two norms."""
    name, sizes = janus_pro
    shape = SHAPES[name]
    layer = 4 * shape.hidden**2 + 3 * shape.hidden * shape.feed_forward + 2 * shape.hidden
    assert sizes.blocks == shape.layers * layer + shape.hidden
    assert sizes.text_head == shape.hidden * 102_400
    assert sizes.width == sizes.kv_width == shape.hidden
    expected = {"janus-pro-1b": 1.275e9, "janus-pro-7b": 6.172e9}[name]
    assert sizes.blocks + sizes.image_head + sizes.image_input == pytest.approx(expected, rel=2e-3)


SIZES = Sizes(
    blocks=1000,
    text_head=70,
    image_head=50,
    image_input=30,
    layers=2,
    width=8,
    kv_width=4,
    vision_parameters=300,
    vision_layers=3,
    vision_width=6,
    vision_tokens=5,
)


@pytest.mark.parametrize("guided", [True, False])
def test_decode_bytes_step_by_step(guided):
    prompts, rollouts, steps, itemsize = [3, 5], 2, 4, 2
    branches = 2 if guided else 1
    position = 2 * 2 * 4 * itemsize
    distinct = repeated = 0
    for step in range(1, steps):
        weights = (1000 + 50 + 30) * itemsize
        own = len(prompts) * branches * rollouts * position * (step + 1)  # write one position, read all
        distinct += weights + own + sum(prompts) * branches * position
        repeated += weights + own + sum(prompts) * branches * rollouts * position
    how = {"rollouts": rollouts, "steps": steps, "guided": guided, "itemsize": itemsize}
    assert decode_bytes(SIZES, prompts, **how) == {"distinct": distinct, "repeated": repeated}


def test_bytes_of_a_janus_pro_step(janus_pro):
    """Batches of 64 guided images against memory times worked out by hand for 3.0 TB/s."""
    name, sizes = janus_pro
    how = {"rollouts": 8, "steps": 576, "guided": True, "itemsize": 2}
    moved = decode_bytes(sizes, [64] * 8, **how)["repeated"]
    assert moved / 575 / 3.0e12 * 1e3 == pytest.approx(
        {"janus-pro-1b": 3.80, "janus-pro-7b": 11.49}[name], rel=0.01
    )


def test_decode_bytes_of_one_step_are_none():
    found = decode_bytes(SIZES, [3], rollouts=2, steps=1, guided=True, itemsize=2)
    assert found == {"distinct": 0, "repeated": 0}


def test_update_flops_position_by_position():
    def trunk(positions):
        return sum(6 * 1000 + 12 * 2 * 8 * (position + 1) for position in positions)

    vision = 2 * 300 * 5 + 4 * 3 * 6 * 5 * 5
    groups = [
        Group(prompt=4, completions=(2, 3), modality="text", imaged=True),
        Group(prompt=2, completions=(6,), modality="image"),
    ]
    after = trunk(range(4, 5)) + trunk(range(4, 6)) + trunk(range(2, 7))
    heads = 6 * 70 * 5 + 6 * 50 * 6
    found = update_flops(SIZES, groups)
    assert found["distinct"] == trunk(range(4)) + vision + trunk(range(2)) + after + heads
    assert found["repeated"] == 2 * (trunk(range(4)) + vision) + trunk(range(2)) + after + heads
    more = update_flops(SIZES, groups, vision_trains=True)
    assert more["distinct"] - found["distinct"] == 2 * vision


def test_operations_of_a_janus_pro_step(janus_pro):
    """One group of 8 images and one of 8 answers of 200 tokens, 11,840 tokens: near 6 N T."""
    name, sizes = janus_pro
    groups = [
        Group(prompt=64, completions=(576,) * 8, modality="image"),
        Group(prompt=640, completions=(200,) * 8, modality="text"),
    ]
    found = update_flops(sizes, groups)
    assert found["repeated"] == pytest.approx(
        {"janus-pro-1b": 93.4e12, "janus-pro-7b": 445e12}[name], rel=0.03
    )
    assert found["repeated"] / found["distinct"] == pytest.approx(1.68, abs=0.05)
