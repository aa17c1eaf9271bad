"""Models by name: Janus-Pro's sizes, random weights in place, vocabularies of any size."""

import pytest
import torch

from benchmarks.shapes import SHAPES, build_policy, byte_processor, janus_config
from pairuni.policies.janus.original_config import config_to_transformers
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling
from reference.original_janus import JANUS_PRO_1B, JANUS_PRO_7B


@pytest.mark.parametrize(
    ("name", "original"), [("janus-pro-1b", JANUS_PRO_1B), ("janus-pro-7b", JANUS_PRO_7B)]
)
def test_shapes_are_those_of_the_released_checkpoints(name, original):
    processor = byte_processor(SHAPES[name])
    ours = janus_config(SHAPES[name], processor, SHAPES[name].vocabulary)
    released = config_to_transformers(original, image_token_id=ours.image_token_id)
    for config in (ours, released):
        config.dtype = config.text_config.dtype = config.architectures = None
    assert ours.to_dict() == released.to_dict()
    assert processor.num_image_tokens == 576


@pytest.mark.parametrize("name", ["tiny", "janus-pro-1b"])
def test_small_vocabularies_are_refused(name):
    with pytest.raises(ValueError, match="--vocab-size is 10, but the tokenizer"):
        build_policy(name, device=torch.device("cpu"), dtype=torch.float32, vocabulary=10)


def test_a_larger_vocabulary_leaves_what_was_known():
    how = {"rollouts": 2, "temperature": 1.0, "guidance": 2.0, "branch": "guided", "seed": 0}
    plain = load_policy("tiny", device="cpu", dtype="float32")
    large = build_policy("tiny", device=torch.device("cpu"), dtype=torch.float32, vocabulary=1000)
    assert large.module.lm_head.weight.shape == (1000, 192)
    known = plain.module.config.text_config.vocab_size
    assert torch.equal(large.module.lm_head.weight[:known], plain.module.lm_head.weight)
    ours, theirs = (
        one.sample_images(ImageSampling(prompts=["a red seven"], **how))[0] for one in (large, plain)
    )
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(ours, theirs, strict=True))
