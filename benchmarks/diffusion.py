"""`python -m benchmarks diffusion`: images of Lumina-DiMOO per second, and the replay of its trajectories.

``python -m benchmarks.diffusion CONTENDER SETTINGS`` prints the peak memory of one contender.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.child import run_module
from benchmarks.hardware import matrix_rate, peak_memory, start_memory
from benchmarks.lumina_shapes import build_lumina
from benchmarks.settings import DiffusionBenchSettings
from benchmarks.timing import interleaved
from benchmarks.workload import image_prompts
from pairuni.policies.lumina_dimoo.log_probs import Estimator, SequenceElbo, TraceReplay
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy
from pairuni.policies.lumina_dimoo.schedule import picture_steps
from pairuni.policies.lumina_dimoo.trajectories import ImageTrace
from pairuni.policies.requests import ImageSampling

ORIGINAL, OURS = "original", "pairuni"
EXACT, SHRUNK, ELBO = "replay", "replay-shrunk", "replay-elbo"
SHRINK = 8
ADDS = {
    ORIGINAL: "the original's loop: one image at a time, guidance in two passes, all logits of all positions",
    OURS: "this project: all images and both rows of guidance packed in a pass, the head over codes of open positions",
    EXACT: "forward and backward of the replay, every step in a state of its own (`shrink` 1)",
    SHRUNK: f"the same with {SHRINK} steps in a state",
    ELBO: "the evidence lower bound with one pair of coupled masks",
}
"""Descriptions of the contenders."""


def original_rollout(policy: LuminaDimooPolicy, request: ImageSampling) -> None:
    """Sample as Alpha-VLLM/Lumina-DiMOO's ``generate_image`` does, which takes one prompt at a time."""
    for task in policy.tasks.images(request):
        for rollout in range(request.rollouts):
            _original_image(policy, task, rollout)


@torch.no_grad()
def _original_image(policy: LuminaDimooPolicy, task: Any, rollout: int) -> None:
    parts, ids = policy.inference, policy.checkpoint.ids
    device = policy.device
    draws = torch.Generator(device).manual_seed(rollout)
    canvas = task.canvas.ids.to(device)
    holes = task.canvas.holes.to(device)
    branches = [task.prompt.ids.to(device), *(one.to(device) for one, _ in task.prompt.unconditional)]
    codes = torch.full((len(holes),), ids.mask, device=device)
    for step in task.steps:
        canvas[holes] = codes
        logits = [_all_logits(parts, torch.cat([prompt, canvas]))[len(prompt) + holes] for prompt in branches]
        logits = [one[:, ids.codes : ids.codes + ids.codebook].float() for one in logits]
        guided = logits[0]
        for (_, strength), other in zip(task.prompt.unconditional, logits[1:], strict=True):
            guided = guided + strength * (logits[0] - other)
        chances = guided.softmax(dim=-1)
        chosen = torch.multinomial(chances, 1, generator=draws).squeeze(1)
        confidence = chances.gather(1, chosen[:, None]).squeeze(1).log()
        gumbel = -torch.log(-torch.log(torch.rand(len(holes), device=device, generator=draws)))
        confidence = (confidence + gumbel).masked_fill(codes != ids.mask, -math.inf)
        kept = confidence.topk(step.count).indices
        codes[kept] = chosen[kept] + ids.codes


def _all_logits(parts: Any, row: Tensor) -> Tensor:
    """[L, V]: one sequence alone, and the whole head at all of its positions."""
    positions = torch.arange(len(row))
    states = parts.states([row.cpu()], [positions])
    return linear(states, parts.model.lm_head.weight)


def contenders(
    policy: LuminaDimooPolicy, settings: DiffusionBenchSettings
) -> dict[str, Callable[[int], object]]:
    """name -> a function of the round's number, which is our seed."""
    request = ImageSampling(
        prompts=image_prompts(settings.prompts),
        rollouts=settings.rollouts,
        guidance=settings.guidance,
        branch=settings.branch,
    )

    def ours(seed: int) -> list[ImageTrace]:
        again = ImageSampling(**{**vars(request), "seed": seed})
        return [one for group in policy.sample_images(again) for one in group]

    sampled: list[ImageTrace] = []

    def replay(estimator: Estimator) -> Callable[[int], object]:
        def work(_: int) -> None:
            if not sampled:
                sampled.extend(ours(0))
            policy.estimator = estimator
            for start in range(0, len(sampled), settings.micro_batch):
                policy.log_probs(sampled[start : start + settings.micro_batch]).values.sum().backward()
            policy.module.zero_grad(set_to_none=True)
            policy.estimator = TraceReplay()

        return work

    every: dict[str, Callable[[int], object]] = {
        ORIGINAL: lambda _: original_rollout(policy, request),
        OURS: ours,
        EXACT: replay(TraceReplay()),
        SHRUNK: replay(TraceReplay(shrink=SHRINK)),
        ELBO: replay(SequenceElbo()),
    }
    return {name: work for name, work in every.items() if name not in settings.skip}


def operations(policy: LuminaDimooPolicy, settings: DiffusionBenchSettings) -> float:
    """Operations that the rollouts need: layers and attention of all tokens, the head at open positions."""
    config = policy.module.config
    layers = sum(parameter.numel() for parameter in policy.module.model.layers.parameters())
    side = policy.tasks.codes(policy.config.image_size)
    steps = picture_steps(side**2, policy.config.image_steps)
    still, opened = side**2, 0
    for step in steps:
        opened += still
        still -= step.count
    total = 0.0
    request = ImageSampling(prompts=image_prompts(settings.prompts), guidance=settings.guidance)
    for task in policy.tasks.images(request):
        rows = [len(ids) + len(task.canvas.ids) for ids in _branches(task)]
        attention = sum(4 * row**2 * config.hidden_size * config.num_hidden_layers for row in rows)
        total += len(steps) * (2 * layers * sum(rows) + attention)
        total += 2 * config.hidden_size * policy.checkpoint.ids.codebook * opened
    return settings.rollouts * total


def _branches(task: Any) -> Sequence[Tensor]:
    return [task.prompt.ids, *(ids for ids, _ in task.prompt.unconditional)]


def measure(settings: DiffusionBenchSettings) -> dict[str, Any]:
    """Time every contender; rollouts also as a share of the device's matrix rate."""
    names = [name for name in ADDS if name not in settings.skip]
    words = settings.model_dump_json()
    memory = {name: run_module("benchmarks.diffusion", name, words) for name in names}
    policy = _build(settings)
    device, dtype = policy.device, policy.module.dtype
    rate = matrix_rate(device, dtype)
    timings = interleaved(
        contenders(policy, settings), repeats=settings.repeats, device=device, title="diffusion"
    )
    images = settings.prompts * settings.rollouts
    needed = operations(policy, settings)
    rows: dict[str, dict[str, Any]] = {}
    for name, timing in timings.items():
        rows[name] = {**timing.to_dict(), **memory[name]}
        if name in (ORIGINAL, OURS):
            rows[name]["images_per_second"] = images / timing.median
            rows[name]["matrix_share"] = needed / timing.median / rate
    return {
        "images": images,
        "image_size": policy.config.image_size,
        "image_steps": policy.config.image_steps,
        "rollout_flops": needed,
        "matrix_flops_per_second": rate,
        "contenders": rows,
    }


def _build(settings: DiffusionBenchSettings) -> LuminaDimooPolicy:
    with tempfile.TemporaryDirectory() as folder:
        return build_lumina(
            settings.model,
            Path(folder),
            device=settings.device,
            dtype=settings.dtype,
            image_size=settings.image_size,
            image_steps=settings.image_steps,
        )


def peak(name: str, words: str) -> dict[str, int]:
    """Memory of one contender: before its work, and at the peak."""
    settings = DiffusionBenchSettings.model_validate_json(words)
    policy = _build(settings)
    work = contenders(policy, settings)[name]
    start = start_memory(policy.device)
    work(0)
    return {"start_bytes": start, "peak_bytes": peak_memory(policy.device)}


if __name__ == "__main__":
    print(json.dumps(peak(*sys.argv[1:])))
