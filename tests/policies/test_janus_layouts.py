"""Names, shapes and counts of the two layouts at the sizes of Janus-Pro, on the meta device."""

import json
import math

import pytest
import torch
from transformers import JanusForConditionalGeneration

from pairuni.policies.janus.original_config import config_to_original, config_to_transformers
from pairuni.policies.janus.tensor_names import UNUSED, to_original, to_transformers
from reference.original_janus import JANUS_PRO_1B, JANUS_PRO_7B, original_shapes


def meta_model(original):
    config = config_to_transformers(original, image_token_id=100581)
    with torch.device("meta"):
        return JanusForConditionalGeneration(config)


def shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("original", [JANUS_PRO_1B, JANUS_PRO_7B], ids=["1B", "7B"])
def test_every_tensor_of_janus_pro_is_mapped(original):
    expected = original_shapes(original)
    released = {name: torch.empty(shape, device="meta") for name, shape in expected.items()}
    renamed, unused = to_transformers(released)
    model = meta_model(original).state_dict()
    assert shapes(renamed) == shapes(model)
    assert all(UNUSED.fullmatch(name) for name in unused)
    assert shapes({**to_original(model), **unused}) == expected


def count(shapes):
    return sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize(
    ("original", "language", "billions"),
    [(JANUS_PRO_1B, 1_652_656_128, 2.09), (JANUS_PRO_7B, 6_910_365_696, 7.42)],
    ids=["1B", "7B"],
)
def test_parameter_counts_of_janus_pro(original, language, billions):
    """Language model and SigLIP-L/16-384 counted by hand; the total as the hub states it."""
    model = meta_model(original)
    parts = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    assert sum(parameter.numel() for parameter in parts) == language
    assert sum(parameter.numel() for parameter in model.model.vision_model.parameters()) == 303_688_704
    assert round(count(original_shapes(original)) / 1e9, 2) == billions


def test_sizes_of_janus_pro_1b():
    config = meta_model(JANUS_PRO_1B).config
    text, vision, vq = config.text_config, config.vision_config, config.vq_config
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (2048, 24, 16)
    assert (text.intermediate_size, text.vocab_size, text.max_position_embeddings) == (5632, 102400, 16384)
    assert (text.rms_norm_eps, text.rope_parameters["rope_theta"]) == (1e-6, 10000.0)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_image_tokens) == (1024, 24, 576)
    assert (vision.depth, vision.projection_dim, vq.num_hidden_layers, vq.projection_dim) == (
        2,
        2048,
        2,
        2048,
    )
    assert (vq.num_embeddings, vq.embed_dim, vq.num_patches) == (16384, 8, 24)
    assert not config.tie_word_embeddings
    assert not text.tie_word_embeddings
    assert config.image_token_id == 100581


@pytest.mark.parametrize("original", [JANUS_PRO_1B, JANUS_PRO_7B], ids=["1B", "7B"])
def test_configurations_survive_a_round_trip(original):
    config = config_to_transformers(original, image_token_id=100581)
    back = config_to_original(config)
    language = {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        **original["language_config"],
    }
    assert back == {**original, "language_config": language}
    assert json.loads(json.dumps(back)) == back
    again = config_to_transformers(back, image_token_id=100581)
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("vision_config", "model_name", "sam_b", "vision tower 'sam_b'"),
        ("aligner_config", "projector_type", "identity", "type 'identity'"),
        ("gen_head_config", "image_token_embed", 77, "different widths"),
    ],
)
def test_other_architectures_are_refused(section, key, value, message):
    changed = json.loads(json.dumps(JANUS_PRO_1B))
    changed[section]["params"][key] = value
    with pytest.raises(ValueError, match=message):
        config_to_transformers(changed, image_token_id=0)


def test_missing_sections_are_named():
    changed = {key: value for key, value in JANUS_PRO_1B.items() if key != "gen_head_config"}
    with pytest.raises(ValueError, match="no 'gen_head_config'"):
        config_to_transformers(changed, image_token_id=0)
