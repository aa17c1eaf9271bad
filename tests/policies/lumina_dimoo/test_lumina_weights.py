"""The original layout: names, shapes, configuration and files."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pairuni.policies.lumina_dimoo.model_config import config_to_original, config_to_transformers
from pairuni.policies.lumina_dimoo.tensor_names import to_original, to_transformers
from pairuni.policies.lumina_dimoo.weights import load_model, save_model
from tiny_lumina import CONFIG, IDS, RELEASED, save_tiny_lumina, shapes

REFERENCE = json.loads((Path(__file__).parents[2] / "reference" / "lumina_dimoo.json").read_text("utf-8"))


def test_every_tensor_arrives_at_its_place_and_comes_back(tmp_path):
    original = save_tiny_lumina(tmp_path / "model")
    model, ids = load_model(tmp_path / "model")
    assert ids == IDS
    found = model.state_dict()
    attention, mlp = model.model.layers[1].self_attn, model.model.layers[1].mlp
    block = "model.transformer.blocks.1"
    for module, name in (
        (model.model.embed_tokens, "model.transformer.wte"),
        (model.model.norm, "model.transformer.ln_f"),
        (model.lm_head, "model.transformer.ff_out"),
        (attention.q_proj, f"{block}.q_proj"),
        (attention.k_proj, f"{block}.k_proj"),
        (attention.v_proj, f"{block}.v_proj"),
        (attention.o_proj, f"{block}.attn_out"),
        (mlp.gate_proj, f"{block}.ff_proj"),
        (mlp.up_proj, f"{block}.up_proj"),
        (mlp.down_proj, f"{block}.ff_out"),
        (model.model.layers[1].input_layernorm, f"{block}.attn_norm"),
        (model.model.layers[1].post_attention_layernorm, f"{block}.ff_norm"),
    ):
        assert torch.equal(module.weight, original[f"{name}.weight"])
    assert len(found) == len(original)

    (tmp_path / "saved").mkdir()
    save_model(model, ids, tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == original.keys()
    assert all(torch.equal(saved[name], original[name]) for name in original)
    again, ids = load_model(tmp_path / "saved", dtype=torch.bfloat16)
    assert ids == IDS
    assert again.lm_head.weight.dtype == torch.bfloat16
    assert again.config.rope_parameters == model.config.rope_parameters
    assert again.config.rms_norm_eps == model.config.rms_norm_eps == 1e-5
    torch.testing.assert_close(again.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


def test_the_full_size_has_the_names_shapes_and_count_of_the_original(tmp_path):
    """On the device "meta", against the original's own modules."""
    (tmp_path / "config.json").write_text(json.dumps(RELEASED), encoding="utf-8")
    model, ids = load_model(tmp_path, weights=False)
    assert ids.vocabulary == 134_548
    found = to_original(model.state_dict())
    families: dict[str, dict[str, object]] = {}
    for name, tensor in found.items():
        family = families.setdefault(re.sub(r"\.\d+\.", ".{n}.", name), {"shape": [], "count": 0})
        family["shape"], family["count"] = list(tensor.shape), int(family["count"]) + 1
    assert families == REFERENCE["released"]["tensors"]
    assert sum(tensor.numel() for tensor in found.values()) == REFERENCE["released"]["parameters"]
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes(RELEASED)
    assert all(tensor.is_meta for tensor in found.values())


def test_names_without_a_rule_stay():
    tensor = torch.zeros(1)
    names = ["model.transformer.blocks.0.other.weight", "model.transformer.wte.bias", "x"]
    assert list(to_transformers(dict.fromkeys(names, tensor))) == names


def test_the_configuration_survives_a_round_trip():
    config, ids = config_to_transformers(CONFIG, Path("config.json"))
    again = config_to_original(config, ids)
    assert {key: again[key] for key in CONFIG if key in again} == {
        key: value for key, value in CONFIG.items() if key in again
    }
    assert config_to_transformers(again, Path("config.json"))[0].to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_size": 72}, "vocabulary of 72"),
        ({"embedding_size": None, "vocab_size": 80}, "vocabulary of 80"),
        ({"weight_tying": True}, "weight_tying"),
        ({"block_type": "sequential"}, "block_type"),
        ({"activation_type": "swiglu"}, "activation_type"),
        ({"n_heads": 5}, "cannot be split"),
        ({"n_layers": 0}, "n_layers"),
        ({"n_layers": 10**6}, "n_layers"),
        ({"d_model": "wide"}, "d_model"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"model_type": "llama"}, "model_type"),
    ],
)
def test_another_architecture_is_refused(tmp_path, changes, message):
    save_tiny_lumina(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_tiny_lumina(tmp_path, n_layers=3)
    with pytest.raises(ValueError, match="tensors are missing"):
        load_model(tmp_path)
