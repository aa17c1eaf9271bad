"""What is measured: a model, prompts, questions and images, the same for every contender of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.shapes import build_policy
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.policy import ImageTrajectory, LogProbBranch, TextTrajectory

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
"""Drawing prompts of several lengths; a longer list repeats them with a number, so that none is equal."""

QUESTIONS = (
    "Which digit is red?",
    "How many digits are there?",
    "What colour is the seven? A. red B. blue",
    "What is the sum of the digits?",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A benchmark's settings; they travel to child processes as JSON.

    prompts, rollouts: P prompts (or pairs) and K rollouts of each. answer_tokens: most tokens of an answer.
    branch: whose log-probs of images are taken. vocab_size: text tokens, None for the model's own.
    micro_batch_tokens: tokens of a forward pass in a whole step. skip: contenders to leave out.
    """

    model: str
    prompts: int
    rollouts: int
    device: str
    dtype: str
    repeats: int
    answer_tokens: int
    guidance: float
    branch: LogProbBranch
    vocab_size: int | None = None
    micro_batch_tokens: int | None = None
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("prompts", "rollouts", "repeats", "answer_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**{**values, "skip": tuple(values["skip"])})

    def policy(self) -> JanusPolicy:
        return build_policy(
            self.model,
            device=torch.device(self.device),
            dtype=getattr(torch, self.dtype),
            vocabulary=self.vocab_size,
        )


def drawing_prompts(count: int) -> list[str]:
    return [
        PROMPTS[index % len(PROMPTS)] + (f" {index // len(PROMPTS)}" if index >= len(PROMPTS) else "")
        for index in range(count)
    ]


def questions(count: int) -> list[str]:
    return [QUESTIONS[index % len(QUESTIONS)] for index in range(count)]


def pictures(policy: JanusPolicy, count: int) -> list[Image.Image]:
    """Noise of the vision tower's size: what an image shows does not change what it costs."""
    side = policy.module.config.vision_config.image_size
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]


def random_trajectories(
    policy: JanusPolicy, settings: Settings
) -> tuple[list[TextTrajectory], list[ImageTrajectory]]:
    """P groups of K answers of ``answer_tokens`` random tokens, and P groups of K images of random codes.

    An update costs the same whatever was sampled; random tokens make its size exact and free of the rollout.
    """
    generator = torch.Generator().manual_seed(0)
    text, vq = policy.module.config.text_config, policy.module.config.vq_config

    def draw(size: int, limit: int) -> Tensor:
        return torch.randint(0, limit, (size,), generator=generator)

    answers, drawings = [], []
    shown = pictures(policy, settings.prompts)
    for image, question in zip(shown, questions(settings.prompts), strict=True):
        pixels = policy.pixel_values([image])[0]
        prompt = policy.prompts.understanding(question, with_image=True)
        answers += [
            TextTrajectory(
                tokens=draw(settings.answer_tokens, text.vocab_size),
                log_probs=torch.zeros(settings.answer_tokens),
                prompt_ids=prompt,
                pixel_values=pixels,
                temperature=1.0,
                finished=True,
                text="",
            )
            for _ in range(settings.rollouts)
        ]
    for words in drawing_prompts(settings.prompts):
        prompt = policy.prompts.generation(words)
        drawings += [
            ImageTrajectory(
                tokens=draw(policy.image_tokens, vq.num_embeddings),
                log_probs=torch.zeros(policy.image_tokens),
                prompt_ids=prompt,
                temperature=1.0,
                guidance=settings.guidance,
                branch=settings.branch,
            )
            for _ in range(settings.rollouts)
        ]
    return answers, drawings
