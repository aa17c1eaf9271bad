"""Adapters: sampling sees them, their gradients are exact, and plain peft loads what we write."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from pairuni.config import LoRASettings
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.policy import ImageSampling, TextSampling, Trajectory
from tiny_models import tiny_janus

PARTS = ["language_model", "generation_head"]
LORA = LoRASettings(rank=3, alpha=12.0)


def adapted(dtype: torch.dtype = torch.float32, scale: float = 0.3, lora: LoRASettings = LORA) -> JanusPolicy:
    """A policy with random adapters; scale 0 leaves them as they begin."""
    model, processor = tiny_janus()
    policy = JanusPolicy(model.to(dtype), processor)
    policy.add_adapters(lora, seed=1)
    trained = policy.train_only(PARTS)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in trained:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise.to(parameter.dtype))
    policy.refresh_inference()
    return policy


def samples(policy: JanusPolicy, images: list) -> list[Trajectory]:
    texts = TextSampling(images=images[:2], questions=["what?", "how many?"], rollouts=2, max_new_tokens=8)
    made = ImageSampling(prompts=["a cat", "two red dogs"], rollouts=2, guidance=2.0)
    answers, generated = policy.sample(texts, made)
    return [one for group in (*answers, *generated) for one in group]


def test_new_adapters_change_nothing(policy, images):
    expected = samples(policy, images)
    for one, other in zip(samples(adapted(scale=0.0), images), expected, strict=True):
        assert torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 0.15), (torch.float64, 0.3)])
def test_samples_are_those_of_the_replayed_policy(policy, images, dtype, scale):
    changed = adapted(dtype, scale)
    found = samples(changed, images)
    plain = samples(policy, images)
    assert sum(not torch.equal(one.tokens, two.tokens) for one, two in zip(found, plain, strict=True)) > 4
    replayed = changed.log_probs(found)
    for row, mask, one in zip(replayed.values, replayed.mask, found, strict=True):
        torch.testing.assert_close(row[mask.bool()].detach(), one.log_probs, atol=1e-4, rtol=0)


def test_changed_weights_must_be_refreshed(images):
    policy = adapted()
    with torch.no_grad():
        policy.trained()[0][1].mul_(2.0)
    with pytest.raises(AssertionError, match="refresh_inference"):
        samples(policy, images)


def test_gradients_equal_autograd_on_the_merged_model(images):
    """d loss / d A and B from the gradient of the merged matrix W + scaling B A; float64 so that it is exact."""
    policy = adapted(torch.float64)
    trajectories = samples(policy, images)
    policy.log_probs(trajectories).values.sum().backward()
    merged = JanusPolicy(policy.inference_module, policy.processor)
    merged.train_only(PARTS)
    merged.log_probs(trajectories).values.sum().backward()
    scaling, checked = LORA.alpha / LORA.rank, 0
    for name, part in policy.module.named_modules():
        if hasattr(part, "lora_A"):
            a, b = part.lora_A["default"].weight, part.lora_B["default"].weight
            slope = gradient(merged.module.get_parameter(f"{name}.weight"))
            torch.testing.assert_close(gradient(b), scaling * slope @ a.double().T, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(gradient(a), scaling * b.double().T @ slope, atol=1e-4, rtol=1e-4)
            checked += 1
    assert checked == 7 * policy.module.config.text_config.num_hidden_layers
    for name, parameter in merged.module.model.generation_head.named_parameters():
        own = gradient(policy.module.model.generation_head.get_parameter(name))
        torch.testing.assert_close(own, gradient(parameter), atol=1e-4, rtol=1e-4)


def gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.double()


def test_the_reference_is_the_policy_without_adapters(policy, images):
    model, processor = tiny_janus()
    changed = JanusPolicy(model, processor)
    changed.add_adapters(LORA, seed=1)
    trained = changed.train_only(PARTS)
    reference = changed.reference()
    with torch.no_grad():
        for _, parameter in trained:
            parameter.add_(0.5)
    found = samples(policy, images)
    values = reference.log_probs(found)
    torch.testing.assert_close(values, policy.log_probs(found).values.detach(), atol=1e-6, rtol=0)
    assert not values.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_peft_loads_the_adapter_and_continues_it(tmp_path: Path, images, dtype):
    policy = adapted(dtype)
    policy.save_adapter(tmp_path / "adapter", dict(policy.trained()))
    policy.save_pretrained(tmp_path / "merged")
    base, processor = tiny_janus()
    ours = JanusPolicy(base.to(dtype), processor)
    ours.load_adapter(tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(
        tiny_janus()[0].to(dtype), str(tmp_path / "adapter")
    ).merge_and_unload()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, policy.inference_module.state_dict()[name]), name
        assert torch.equal(weight, ours.module.state_dict()[name]), name
    again = JanusPolicy(tiny_janus()[0].to(dtype), processor)
    again.add_adapters(LORA.model_copy(update={"adapter": tmp_path / "adapter"}), seed=5)
    again.train_only(PARTS)
    for (name, one), (_, other) in zip(again.trained(), policy.trained(), strict=True):
        assert torch.equal(one, other), name


def test_adapters_that_do_not_fit_are_refused(tmp_path: Path):
    policy = adapted()
    policy.save_adapter(tmp_path, dict(policy.trained()))
    for change, said in (({"rank": 2}, "policy.lora.rank is 2"), ({"targets": ["q_proj"]}, "does not fit")):
        model, processor = tiny_janus()
        other = LORA.model_copy(update={"adapter": tmp_path, **change})
        with pytest.raises(ValueError, match=said):
            JanusPolicy(model, processor).add_adapters(other, seed=0)
    with pytest.raises(ValueError, match="wrong_proj"):
        adapted(lora=LoRASettings(targets=["q_proj", "wrong_proj"]))
    with pytest.raises(ValueError, match="does not name language_model"):
        policy.train_only(["generation_head"])
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    model, processor = tiny_janus()
    with pytest.raises(ValueError, match="cannot be read"):
        JanusPolicy(model, processor).load_adapter(tmp_path)
