"""Bytes and operations by arithmetic, against counts made by hand and by walking through the steps."""

import pytest

from pairuni.bench.cost import Group, Sizes, decode_bytes, sizes_of, update_flops
from pairuni.bench.shapes import SHAPES, byte_processor, janus_config


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
    total = 0
    filled = [length for length in prompts for _ in range(rollouts * (2 if guided else 1))]
    for _ in range(steps - 1):
        total += (1000 + 50 + 30) * itemsize
        for row in range(len(filled)):
            filled[row] += 1
            total += 2 * 2 * 4 * itemsize * (1 + filled[row])  # write one position, read all
    measured = decode_bytes(SIZES, prompts, rollouts=rollouts, steps=steps, guided=guided, itemsize=itemsize)
    assert measured == total


def test_decode_bytes_of_one_step_are_none():
    assert decode_bytes(SIZES, [3], rollouts=2, steps=1, guided=True, itemsize=2) == 0


def test_update_flops_position_by_position():
    def trunk(positions):
        return sum(6 * 1000 + 12 * 2 * 8 * (position + 1) for position in positions)

    vision = 2 * 300 * 5 + 4 * 3 * 6 * 5 * 5
    groups = [
        Group(prompt=4, completions=(2, 3), modality="text", pictured=True),
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
    """One group of 8 pictures and one of 8 answers of 200 tokens, 11,840 tokens: near 6 N T."""
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
