"""The interface that the trainer sees: a unified policy and the trajectories it makes.

A trajectory carries all that replaying it needs, so that what was sampled is what is scored: temperature,
guidance and the branch of the log-probs are read from the trajectory, never again from settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

Modality = Literal["text", "image"]
LogProbBranch = Literal["guided", "conditional"]


@dataclass(frozen=True, kw_only=True)
class TextTrajectory:
    """One sampled answer o to (image, question). All tensors live on the CPU.

    tokens: [T] sampled ids; when the answer finished, the last is the end-of-sequence id that was sampled, one
    of those that the checkpoint declares.
    log_probs: [T] float32 log pi(o_t | q, o_<t) at sampling, of the temperature-scaled softmax.
    prompt_ids: [P] the unpadded prompt, image placeholders expanded.
    pixel_values: [C, H, W] the understanding image, preprocessed, or None for text-only questions.
    """

    modality: Literal["text"] = "text"
    tokens: Tensor
    log_probs: Tensor
    prompt_ids: Tensor
    pixel_values: Tensor | None
    temperature: float
    finished: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class ImageTrajectory:
    """One sampled image, as the policy's discrete image tokens. All tensors live on the CPU.

    tokens: [T] sampled codebook ids in the order they were set.
    log_probs: [T] float32, of the branch named by ``branch``.
    prompt_ids: [P] the unpadded conditional prompt, begin-of-image included.
    guidance: g of logits u + g (c - u); 1 means that no unconditional branch exists.
    branch: "guided" scores the guided logits that sampled; "conditional" the conditional logits alone.
    """

    modality: Literal["image"] = "image"
    tokens: Tensor
    log_probs: Tensor
    prompt_ids: Tensor
    temperature: float
    guidance: float
    branch: LogProbBranch


Trajectory = TextTrajectory | ImageTrajectory


def replay_tokens(trajectories: Sequence[Trajectory]) -> int:
    """Tokens of one packed forward of these trajectories: a prompt that several share counts once, a guided
    image's unconditional twin counts too."""
    prompts: dict[tuple[object, ...], int] = {}
    total = 0
    for one in trajectories:
        if isinstance(one, TextTrajectory):
            key: tuple[object, ...] = (tuple(one.prompt_ids.tolist()), id(one.pixel_values))
            branches = 1
        else:
            key = (tuple(one.prompt_ids.tolist()),)
            branches = 2 if one.branch == "guided" and one.guidance != 1.0 else 1
        prompts[key] = branches * len(one.prompt_ids)
        total += branches * (len(one.tokens) - 1)
    return total + sum(prompts.values())


@dataclass(frozen=True, kw_only=True)
class TextSampling:
    """A request for ``rollouts`` answers to each (image, question); an image may be None for a text-only question.

    temperature 0 is greedy decoding.
    """

    images: Sequence[Image.Image | None]
    questions: Sequence[str]
    rollouts: int = 1
    temperature: float = 1.0
    max_new_tokens: int
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ImageSampling:
    """A request for ``rollouts`` images of each prompt; for guidance and branch see ``ImageTrajectory``."""

    prompts: Sequence[str]
    rollouts: int = 1
    temperature: float = 1.0
    guidance: float
    branch: LogProbBranch = "guided"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrajectoryLogProbs:
    """Differentiable log-probs of N trajectories, right-padded. values, mask: [N, T]; mask 1 = real token."""

    values: Tensor
    mask: Tensor


class UnifiedPolicy(ABC):
    """One model that answers questions about images and draws images from prompts."""

    name: str
    module: nn.Module
    default_guidance: float = 5.0
    """Guidance of drawing where nobody asks for another (paper: 5)."""
    image_tokens: int
    """Tokens that an image takes, drawn or asked about."""
    activation_checkpointing: bool = False
    """Whether ``log_probs`` keeps one state a layer and computes the rest again in the backward pass."""

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @abstractmethod
    def sample_text(self, request: TextSampling) -> list[list[TextTrajectory]]:
        """One list of trajectories per question, in order.

        A trajectory depends on the seed and on its place in the request, not on how rows were batched.
        """

    @abstractmethod
    def sample_images(self, request: ImageSampling) -> list[list[ImageTrajectory]]:
        """One list of trajectories per prompt, in order; reproducible as in ``sample_text``."""

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[TextTrajectory]], list[list[ImageTrajectory]]]:
        """The results of ``sample_text`` and ``sample_images``.

        A policy that can decode both in the same steps overrides this to save time.
        """
        return self.sample_text(texts), self.sample_images(images)

    @abstractmethod
    def decode_images(self, trajectories: Sequence[ImageTrajectory]) -> list[Image.Image]:
        """The images that image trajectories stand for, as RGB."""

    @abstractmethod
    def log_probs(self, trajectories: Sequence[Trajectory]) -> TrajectoryLogProbs:
        """Teacher-forced log pi(o_t | q, o_<t) of the trajectories, in their order, with gradient.

        Text and image trajectories may be mixed; each is replayed with its own temperature, guidance and
        branch.
        """

    def question_faults(self, questions: Sequence[str], max_new_tokens: int) -> dict[str, str]:
        """Why questions about an image cannot be asked, by question, worded as by ``question_fault``.

        A policy whose context ends somewhere overrides this; it must be fast for 100,000 questions.
        """
        return {text: fault for text in questions if (fault := self.question_fault(text)) is not None}

    def prompt_faults(self, prompts: Sequence[str]) -> dict[str, str]:
        """Why prompts cannot be drawn, by prompt, likewise."""
        return {text: fault for text in prompts if (fault := self.question_fault(text)) is not None}

    def answer(self, image: Image.Image, question: str, *, max_new_tokens: int | None = None) -> str:
        """The greedy answer to one question; by default up to 512 tokens."""
        request = TextSampling(
            images=[image], questions=[question], temperature=0.0, max_new_tokens=max_new_tokens or 512
        )
        return self.sample_text(request)[0][0].text

    def question_fault(self, text: str) -> str | None:
        """Why ``text`` cannot be a question or a drawing prompt of this policy, as the end of a sentence that begins
        with the text's name; None when it can. A policy with special tokens overrides this."""
        return None

    def score_text(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], answers: Sequence[str]
    ) -> list[TextTrajectory]:
        """Given answers as trajectories of temperature 1, log-probs filled in; an answer is not ended by the
        end-of-sequence id. A policy that is to be scored by likelihood, as some benchmarks do, overrides this.
        """
        raise NotImplementedError(f"The policy {self.name} cannot score answers that it did not sample.")

    @abstractmethod
    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Pooled features of the understanding vision tower, [N, D] float32 on the CPU, not normalised."""

    @abstractmethod
    def train_only(self, parts: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        """Freeze all but the named parts and return the named parameters that train.

        Raises ValueError naming the parts this policy has when one is unknown.
        """

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Write weights, configuration, tokenizer and processor files that plain ``transformers`` loads."""
