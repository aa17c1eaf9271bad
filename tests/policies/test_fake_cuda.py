"""Code of a CUDA device on fake tensors: devices, dtypes and shapes of sampling, replay, adapters and AdamW.

Not covered: captured graphs, and the backward pass, which needs a build with CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fake_cuda import CUDA, FakeCuda, fake_cuda
from pairuni.config import LoRASettings
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.trajectories import Trajectory
from pairuni.training.optimizer import NamedAdamW
from tiny_models import tiny_janus

PARTS = ["language_model", "generation_head"]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    with fake_cuda(monkeypatch) as mode:
        yield mode


def on_cuda(lora: bool) -> JanusPolicy:
    model, processor = tiny_janus()
    policy = JanusPolicy(model.to(torch.bfloat16), processor)
    if lora:
        policy.add_adapters(LoRASettings(rank=2, alpha=4.0), seed=0)
    move(policy.module, policy.inference_module)
    policy.refresh_inference()
    policy.train_only(PARTS)
    return policy


def move(*modules: nn.Module) -> None:
    """To the device, with what modules share; ``Module.to`` cannot exchange fake tensors twice."""
    moved: dict[Tensor, Tensor] = {}
    for part in (part for module in modules for part in module.modules()):
        for name, value in (*part._parameters.items(), *part._buffers.items()):
            if value is None or value.device == CUDA:
                continue
            if value not in moved:
                copied = value.detach().to(CUDA)
                moved[value] = nn.Parameter(copied) if isinstance(value, nn.Parameter) else copied
            (part._parameters if name in part._parameters else part._buffers)[name] = moved[value]


def samples(policy: JanusPolicy) -> list[Trajectory]:
    image = Image.new("RGB", (30, 20), "red")
    texts = TextSampling(images=[image, None], questions=["what?", "how many?"], rollouts=2, max_new_tokens=5)
    made = ImageSampling(prompts=["a cat", "two red dogs"], rollouts=2, guidance=2.0)
    answers, generated = policy.sample(texts, made)
    policy.decode_images([one for group in generated for one in group])
    return [one for group in (*answers, *generated) for one in group]


@pytest.mark.parametrize("lora", [False, True])
def test_a_step(cuda: FakeCuda, tmp_path: Path, lora: bool) -> None:
    policy = on_cuda(lora)
    assert policy.device.type == "cuda"
    reference = policy.reference()
    optimizer = NamedAdamW(policy.trained(), learning_rate=1e-3)
    found = samples(policy)
    for one in found:
        assert one.tokens.device.type == one.log_probs.device.type == "cpu"
        assert (one.tokens.dtype, one.log_probs.dtype) == (torch.int64, torch.float32)
    with torch.no_grad():  # a build for the CPU has no backward pass of the device
        replayed = policy.log_probs(found)
    assert replayed.values.device.type == replayed.mask.device.type == "cuda"
    assert replayed.values.dtype == torch.float32
    assert reference.log_probs(found).device.type == "cuda"
    for _, parameter in policy.trained():
        parameter.grad = torch.ones_like(parameter)
    optimizer.collect_gradients()
    gradients = optimizer.gradients()
    assert gradients
    assert {(one.dtype, one.device.type) for one in gradients.values()} == {(torch.float32, "cuda")}
    optimizer.clip_gradients(1.0, optimizer.gradient_norm())
    optimizer.step(1e-3)
    policy.refresh_inference()
    weights = [*policy.module.named_parameters(), *policy.inference_module.named_parameters()]
    for name, parameter in weights:
        assert parameter.device.type == "cuda", name
        assert parameter.dtype == (torch.float32 if "lora_" in name else torch.bfloat16), name
    again = samples(policy)
    assert len(again) == len(found)
