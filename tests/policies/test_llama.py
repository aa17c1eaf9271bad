"""The layers as one function of packed tokens: fast projections, and weights that stay parameters."""

import pytest
import torch

from pairuni.policies.llama import LlamaLayers, adjacent_rows, place_for_decoding
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling
from tiny_emu3 import tiny_emu3
from tiny_models import tiny_llama


def causal(_, queries, keys, values):
    return torch.nn.functional.scaled_dot_product_attention(
        *(states.transpose(0, 1)[None] for states in (queries, keys, values)), is_causal=True, enable_gqa=True
    )[0].transpose(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_inference_is_forward(dtype):
    model = tiny_llama(2).to(dtype)
    layers = LlamaLayers(model)
    embeds = torch.randn(11, 32, dtype=dtype, generator=torch.Generator().manual_seed(3))
    expected = model(inputs_embeds=embeds[None]).last_hidden_state[0]
    rotary = layers.rotary(11)
    tolerance = {"atol": 0.1, "rtol": 0.05} if dtype == torch.bfloat16 else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(layers.forward(embeds, rotary, causal), expected, **tolerance)
    with torch.no_grad():
        torch.testing.assert_close(layers.inference(8)(embeds, rotary, causal), expected, **tolerance)


def test_inference_sees_new_weights():
    layers = LlamaLayers(tiny_llama(4))
    embeds, rotary = torch.randn(5, 32), layers.rotary(5)
    with torch.no_grad():
        before = layers.inference(5)(embeds, rotary, causal)
        for parameter in layers.model.parameters():
            parameter.mul_(1.5)
        after = layers.inference(5)(embeds, rotary, causal)
        torch.testing.assert_close(after, layers.forward(embeds, rotary, causal), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, after)


def test_projections_are_placed_next_to_each_other_and_stay_parameters():
    model = tiny_llama(2).to(torch.bfloat16)
    values = {name: value.clone() for name, value in model.state_dict().items()}
    attention = model.layers[0].self_attn
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    place_for_decoding(model)
    joined = adjacent_rows([part.weight for part in parts])
    assert torch.equal(joined, torch.cat([part.weight for part in parts]))
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        parts[1].weight.add_(1.0)
    rows = len(parts[0].weight)
    assert torch.equal(joined[rows : rows + len(parts[1].weight)], parts[1].weight)
    places = [parameter.data_ptr() for parameter in model.parameters()]
    place_for_decoding(model)
    assert places == [parameter.data_ptr() for parameter in model.parameters()]
    parts[1].weight.data = parts[1].weight.data.clone()  # what moving a model to another device does
    assert adjacent_rows([part.weight for part in parts]) is None


def test_a_policy_with_joined_weights_trains_and_saves(tmp_path):
    """Weights are joined on loading: in bfloat16 on a CPU, in any dtype on a GPU."""
    policy = load_policy("tiny", device="cpu", dtype="bfloat16")
    before = {name: weight.clone() for name, weight in policy.module.state_dict().items()}
    trajectories = policy.sample_images(ImageSampling(prompts=["a red seven"], rollouts=2, guidance=2.0))[0]
    attention = policy.module.model.language_model.layers[0].self_attn
    places = {part.weight.untyped_storage().data_ptr() for part in (attention.q_proj, attention.v_proj)}
    assert len(places) == 1
    trained = dict(policy.train_only(["language_model"]))
    policy.log_probs(trajectories).values.sum().backward()
    assert all(weight.grad is not None for name, weight in trained.items() if "self_attn" in name)
    policy.save_pretrained(tmp_path / "saved")
    loaded = load_policy(tmp_path / "saved", device="cpu", dtype="bfloat16").module.state_dict()
    assert set(loaded) == set(before)
    for name, weight in before.items():
        assert torch.equal(loaded[name], weight), name


def test_other_models_are_refused():
    model = tiny_llama(4)
    model.config.hidden_act = "gelu"
    with pytest.raises(ValueError, match="only Llama"):
        LlamaLayers(model)


@pytest.mark.parametrize(
    "changes", [{}, {"attention_bias": True, "mlp_bias": True}, {"head_dim": 12}], ids=str
)
def test_emu3_has_the_layers_of_a_llama(changes):
    emu3, _ = tiny_emu3(**changes)
    model = emu3.model.text_model
    assert model.config.attention_dropout == 0.1  # applied in train mode only
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    place_for_decoding(model)
    layers = LlamaLayers(model)
    embeds = torch.randn(11, 32, generator=torch.Generator().manual_seed(3))
    expected = model(inputs_embeds=embeds[None]).last_hidden_state[0]
    with torch.no_grad():
        for found in (layers.forward, layers.inference(8)):
            torch.testing.assert_close(
                found(embeds, layers.rotary(11), causal), expected, atol=1e-5, rtol=1e-5
            )
