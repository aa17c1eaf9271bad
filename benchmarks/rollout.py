"""`python -m benchmarks rollout`: images per second of ours and the baselines, and the cost of answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from benchmarks.baselines import peers_rollout, transformers_rollout
from benchmarks.cost import decode_bytes, sizes_of
from benchmarks.hardware import copy_bandwidth
from benchmarks.settings import RolloutBenchSettings
from benchmarks.timing import interleaved
from benchmarks.workload import build, image_prompts, noise_images, questions
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import ImageSampling, TextSampling

TEMPERATURE = 1.0
OURS, JOINT = "pairuni", "pairuni-joint"
BASELINES = ("peers", "peers-batched", "transformers")
ADDS = {
    "peers": "the peers' loop: one prompt at a time, cache and mask grow by copying",
    "peers-batched": "all prompts in one batch",
    "transformers": "static key-value cache (`generate` of `transformers`, complete batch)",
    OURS: "this project: one prefill per prompt, attention to the filled part, log-probs with the tokens",
    JOINT: "the answers of the understanding side in the same steps",
}
"""Descriptions of the contenders, each of which adds one thing to the previous ones."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """P pairs: images with questions, and prompts to generate from."""

    images: list[Image.Image]
    questions: list[str]
    prompts: list[str]


def joint_rollout(policy: UnifiedPolicy, batch: Batch, settings: RolloutBenchSettings, seed: int) -> None:
    """Answers and images of a batch of pairs: the rollout of one step."""
    texts = TextSampling(
        images=batch.images,
        questions=batch.questions,
        rollouts=settings.rollouts,
        temperature=TEMPERATURE,
        max_new_tokens=settings.answer_length,
        seed=seed,
    )
    policy.sample(texts, image_sampling(batch, settings, seed))


def image_sampling(batch: Batch, settings: RolloutBenchSettings, seed: int) -> ImageSampling:
    """The image half of the request."""
    return ImageSampling(
        prompts=batch.prompts,
        rollouts=settings.rollouts,
        temperature=TEMPERATURE,
        guidance=settings.guidance,
        branch=settings.branch,
        seed=seed,
    )


def contenders(policy: JanusPolicy, settings: RolloutBenchSettings) -> dict[str, Callable[[int], object]]:
    """name -> a function of the round's number, which is our seed; those of ``settings.skip`` are left out.

    In round 0, the warm-up, the peers' loop runs the longest prompt alone: its eager steps take minutes at
    Janus-Pro's sizes, and one prompt at a time its memory does not grow with their number.
    """
    count = settings.prompts
    batch = Batch(
        images=noise_images(policy, count), questions=questions(count), prompts=image_prompts(count)
    )
    longest = [max(batch.prompts, key=lambda prompt: len(policy.prompts.generation(prompt)))]
    how: dict[str, Any] = {
        "rollouts": settings.rollouts,
        "temperature": TEMPERATURE,
        "guidance": settings.guidance,
    }
    every: dict[str, Callable[[int], object]] = {
        "peers": lambda turn: [
            peers_rollout(policy, [prompt], **how) for prompt in (batch.prompts if turn else longest)
        ],
        "peers-batched": lambda _: peers_rollout(policy, batch.prompts, **how),
        "transformers": lambda _: transformers_rollout(policy, batch.prompts, **how),
        OURS: lambda seed: policy.sample_images(image_sampling(batch, settings, seed)),
        JOINT: lambda seed: joint_rollout(policy, batch, settings, seed),
    }
    return {name: work for name, work in every.items() if name not in settings.skip}


def measure(settings: RolloutBenchSettings, memory: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Time every contender, also as a share of the device's memory bandwidth."""
    policy = build(settings)
    device = policy.device
    bandwidth = copy_bandwidth(device)
    timings = interleaved(
        contenders(policy, settings), repeats=settings.repeats, device=device, title="rollout"
    )
    prompts = [len(policy.prompts.generation(prompt)) for prompt in image_prompts(settings.prompts)]
    moved = decode_bytes(
        sizes_of(policy.module),
        prompts,
        rollouts=settings.rollouts,
        steps=policy.image_tokens,
        guided=settings.guidance != 1.0,
        itemsize=policy.module.dtype.itemsize,
    )
    images = settings.prompts * settings.rollouts
    rows: dict[str, dict[str, float]] = {}
    for name, timing in timings.items():
        rows[name] = {
            **timing.to_dict(),
            "images_per_second": images / timing.median,
            "image_tokens_per_second": images * policy.image_tokens / timing.median,
            **memory[name],
        }
        if name != JOINT:  # the bytes of answers are not counted
            rows[name]["bandwidth_share"] = moved["distinct"] / timing.median / bandwidth
            rows[name]["bandwidth_share_repeated"] = moved["repeated"] / timing.median / bandwidth
    ours = timings[OURS].median
    return {
        "images": images,
        "image_tokens": policy.image_tokens,
        "prompt_tokens": prompts,
        "decode_bytes": moved,
        "decode_bytes_per_step": {
            name: total / max(policy.image_tokens - 1, 1) for name, total in moved.items()
        },
        "copy_bytes_per_second": bandwidth,
        "contenders": rows,
        "times_faster": {name: timing.median / ours for name, timing in timings.items() if name in BASELINES},
        **({"joint_over_images_alone": timings[JOINT].median / ours} if JOINT in timings else {}),
    }
