"""The layers as one function of packed tokens: fast projections, and weights that stay parameters."""

import pytest
import torch

from pairuni.policies.llama import LlamaLayers, join_parameters
from pairuni.policies.policy import ImageSampling
from pairuni.policies.registry import load_policy
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


def test_joined_parameters_are_one_tensor_and_stay_parameters():
    parts = [torch.nn.Parameter(torch.randn(rows, 3)) for rows in (2, 4, 1)]
    values = [part.detach().clone() for part in parts]
    joined = join_parameters(parts)
    assert torch.equal(joined, torch.cat(values))
    with torch.no_grad():
        parts[1].add_(1.0)
    assert torch.equal(joined[2:6], values[1] + 1.0)
    again = join_parameters(parts)
    assert again.data_ptr() == joined.data_ptr()
    parts[1].data = parts[1].data.clone()  # what moving a model to another device does
    moved = join_parameters(parts)
    assert moved.data_ptr() != joined.data_ptr()
    assert torch.equal(moved, torch.cat([part.detach() for part in parts]))


def test_a_policy_with_joined_weights_trains_and_saves(tmp_path):
    """Weights are joined by the first rollout: in bfloat16 on a CPU, in any dtype on a GPU."""
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
