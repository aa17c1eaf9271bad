"""The workload: a model, prompts, questions and images, the same for every contender of a run."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.settings import WorkloadSettings
from benchmarks.shapes import build_policy
from pairuni.policies.autoregressive import ImageTokens, TextTokens
from pairuni.policies.janus.policy import JanusPolicy

PROMPTS = (
    "a red seven top left and a blue two",
    "three sixes",
    "a green four",
    "a yellow nine below a red one",
    "a purple three and a green five bottom right",
    "two zeros",
    "a blue eight left of a yellow six",
    "a red one and a red two and a red three",
)
"""Image prompts of several lengths; a longer list repeats them with a number, so that all differ."""

QUESTIONS = (
    "Which digit is red?",
    "How many digits are there?",
    "What colour is the seven? A. red B. blue",
    "What is the sum of the digits?",
)


def build(settings: WorkloadSettings) -> JanusPolicy:
    """The policy of resolved settings (device and dtype are names of torch)."""
    return build_policy(
        settings.model,
        device=torch.device(settings.device),
        dtype=getattr(torch, settings.dtype),
        vocabulary=settings.vocab_size,
    )


def image_prompts(count: int) -> list[str]:
    return [
        PROMPTS[index % len(PROMPTS)] + (f" {index // len(PROMPTS)}" if index >= len(PROMPTS) else "")
        for index in range(count)
    ]


def questions(count: int) -> list[str]:
    return [QUESTIONS[index % len(QUESTIONS)] for index in range(count)]


def noise_images(policy: JanusPolicy, count: int) -> list[Image.Image]:
    """Noise of the vision tower's image size; the cost does not depend on the content."""
    side = policy.module.config.vision_config.image_size
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def random_trajectories(
    policy: JanusPolicy, settings: WorkloadSettings
) -> tuple[list[TextTokens], list[ImageTokens]]:
    """P groups of K answers of ``answer_length`` random tokens, and P groups of K images of random codes.

    The cost of an update does not depend on the tokens; random ones fix its size without a rollout.
    """
    generator = torch.Generator().manual_seed(0)
    text, vq = policy.module.config.text_config, policy.module.config.vq_config

    def random_tokens(size: int, limit: int) -> Tensor:
        return torch.randint(0, limit, (size,), generator=generator)

    answers, images = [], []
    shown = noise_images(policy, settings.prompts)
    for image, question in zip(shown, questions(settings.prompts), strict=True):
        pixels = policy.pixel_values([image])[0]
        prompt = policy.prompts.understanding(question, images=1)
        answers += [
            TextTokens(
                tokens=random_tokens(settings.answer_length, text.vocab_size),
                log_probs=torch.zeros(settings.answer_length),
                prompt_ids=prompt,
                pixel_values=(pixels,),
                temperature=1.0,
                finished=True,
                text="",
            )
            for _ in range(settings.rollouts)
        ]
    for words in image_prompts(settings.prompts):
        prompt = policy.prompts.generation(words)
        images += [
            ImageTokens(
                tokens=random_tokens(policy.image_tokens, vq.num_embeddings),
                log_probs=torch.zeros(policy.image_tokens),
                prompt_ids=prompt,
                temperature=1.0,
                guidance=settings.guidance,
                branch=settings.branch,
            )
            for _ in range(settings.rollouts)
        ]
    return answers, images
