"""Adapters: sampling sees them, their gradients are exact, and plain peft loads what we write."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from pairuni.config import LoRASettings
from pairuni.policies.emu3.policy import Emu3Policy
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.trajectories import Trajectory
from tiny_families import FAMILIES, tiny_policy

PARTS = {
    "janus": ["language_model", "generation_head"],
    "lumina_dimoo": ["language_model"],
    "emu3": ["language_model"],
}
LORA = LoRASettings(rank=3, alpha=12.0)
Policy = JanusPolicy | LuminaDimooPolicy | Emu3Policy

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def adapted(
    family: str, dtype: torch.dtype = torch.float32, scale: float = 0.3, lora: LoRASettings = LORA
) -> Policy:
    """A policy with random adapters; scale 0 leaves them as they begin."""
    policy = tiny_policy(family, dtype)
    policy.add_adapters(lora, seed=1)
    trained = policy.train_only(PARTS[family])
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, parameter in trained:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(scale * noise.to(parameter.dtype))
    policy.refresh_inference()
    return policy


def merged_of(policy: Policy) -> Policy:
    """A policy of the whole weights that sample."""
    if isinstance(policy, JanusPolicy):
        return JanusPolicy(policy.inference_module, policy.processor)
    if isinstance(policy, Emu3Policy):
        return Emu3Policy(policy.inference_module, policy.processor, grid=policy.grid)
    return LuminaDimooPolicy(replace(policy.checkpoint, model=policy.inference_module), policy.config)


def samples(policy: Policy, images: list) -> list[Trajectory]:
    texts = TextSampling(images=images[:2], questions=["what?", "how many?"], rollouts=2, max_new_tokens=8)
    made = ImageSampling(prompts=["a cat", "two red dogs"], rollouts=2, guidance=2.0)
    answers, generated = policy.sample(texts, made)
    return [one for group in (*answers, *generated) for one in group]


def tokens(trajectory: Trajectory) -> Tensor:
    return trajectory.trace.choices if hasattr(trajectory, "trace") else trajectory.tokens


def test_new_adapters_change_nothing(family, images):
    expected = samples(tiny_policy(family), images)
    for one, other in zip(samples(adapted(family, scale=0.0), images), expected, strict=True):
        assert torch.equal(tokens(one), tokens(other))


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 0.15), (torch.float64, 0.3)])
def test_samples_are_those_of_the_replayed_policy(family, images, dtype, scale):
    changed = adapted(family, dtype, scale)
    found = samples(changed, images)
    plain = samples(tiny_policy(family), images)
    assert sum(not torch.equal(tokens(one), tokens(two)) for one, two in zip(found, plain, strict=True)) > 4
    replayed = changed.log_probs(found)
    for row, mask, one in zip(replayed.values, replayed.mask, found, strict=True):
        torch.testing.assert_close(row[mask.bool()].detach(), one.log_probs, atol=1e-4, rtol=0)


def test_changed_weights_must_be_refreshed(family, images):
    policy = adapted(family)
    with torch.no_grad():
        policy.trained()[0][1].mul_(2.0)
    with pytest.raises(AssertionError, match="refresh_inference"):
        samples(policy, images)


def test_gradients_equal_autograd_on_the_merged_model(family, images):
    """d loss / d A and B from the gradient of the merged matrix W + scaling B A; float64 so that it is exact."""
    policy = adapted(family, torch.float64)
    trajectories = samples(policy, images)
    policy.log_probs(trajectories).values.sum().backward()
    whole = [name for name, _ in policy.trained() if "lora_" not in name]
    merged = merged_of(policy)
    merged.train_only(PARTS[family])
    merged.log_probs(trajectories).values.sum().backward()
    scaling, checked = LORA.alpha / LORA.rank, 0
    for name, part in policy.module.named_modules():
        if hasattr(part, "lora_A"):
            a, b = part.lora_A["default"].weight, part.lora_B["default"].weight
            slope = gradient(merged.module.get_parameter(f"{name}.weight"))
            torch.testing.assert_close(gradient(b), scaling * slope @ a.double().T, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(gradient(a), scaling * b.double().T @ slope, atol=1e-4, rtol=1e-4)
            checked += 1
    assert checked == 7 * policy.module.config.get_text_config().num_hidden_layers
    assert all("generation_head" in name for name in whole)
    assert bool(whole) == (family == "janus")
    for name in whole:
        own = gradient(policy.module.get_parameter(name))
        torch.testing.assert_close(own, gradient(merged.module.get_parameter(name)), atol=1e-4, rtol=1e-4)


def gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.double()


def test_the_reference_is_the_policy_without_adapters(family, images):
    plain, changed = tiny_policy(family), tiny_policy(family)
    changed.add_adapters(LORA, seed=1)
    trained = changed.train_only(PARTS[family])
    reference = changed.reference()
    with torch.no_grad():
        for _, parameter in trained:
            parameter.add_(0.5)
    found = samples(plain, images)
    values = reference.log_probs(found)
    torch.testing.assert_close(values, plain.log_probs(found).values.detach(), atol=1e-5, rtol=0)
    assert not values.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_peft_loads_the_adapter_and_continues_it(family, tmp_path: Path, images, dtype):
    policy = adapted(family, dtype)
    policy.save_adapter(tmp_path / "adapter", dict(policy.trained()))
    policy.save_pretrained(tmp_path / "merged")
    ours = tiny_policy(family, dtype)
    ours.load_adapter(tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(
        tiny_policy(family, dtype).module, str(tmp_path / "adapter")
    ).merge_and_unload()
    saved = load_policy(tmp_path / "merged", device="cpu", dtype=str(dtype).removeprefix("torch."))
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, policy.inference_module.state_dict()[name]), name
        assert torch.equal(weight, ours.module.state_dict()[name]), name
        assert torch.equal(weight, saved.module.state_dict()[name]), name
    again = tiny_policy(family, dtype)
    again.add_adapters(LORA.model_copy(update={"adapter": tmp_path / "adapter"}), seed=5)
    again.train_only(PARTS[family])
    for (name, one), (_, other) in zip(again.trained(), policy.trained(), strict=True):
        assert torch.equal(one, other), name


def test_adapters_of_some_matrices(family, images):
    policy = adapted(family, lora=LoRASettings(rank=2, alpha=2.0, targets=["v_proj", "down_proj"]))
    found = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in policy.trained() if "lora_" in name}
    assert found == {"v_proj", "down_proj"}
    layers = policy.module.config.get_text_config().num_hidden_layers
    assert sum("lora_" in name for name, _ in policy.trained()) == 2 * 2 * layers


def test_adapters_that_do_not_fit_are_refused(family, tmp_path: Path):
    policy = adapted(family)
    policy.save_adapter(tmp_path, dict(policy.trained()))
    for change, said in (({"rank": 2}, "policy.lora.rank is 2"), ({"targets": ["q_proj"]}, "does not fit")):
        other = LORA.model_copy(update={"adapter": tmp_path, **change})
        with pytest.raises(ValueError, match=said):
            tiny_policy(family).add_adapters(other, seed=0)
    with pytest.raises(ValueError, match="wrong_proj"):
        adapted(family, lora=LoRASettings(targets=["q_proj", "wrong_proj"]))
    with pytest.raises(ValueError, match="does not name language_model"):
        policy.train_only([])
    (tmp_path / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read"):
        tiny_policy(family).load_adapter(tmp_path)
