"""Requests for rollouts, scored answers, and the errors of a policy that cannot serve a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from pairuni.policies.trajectories import LogProbBranch

QuestionImages = Image.Image | Sequence[Image.Image] | None
"""What a question shows: one image, several in order, or None for a text-only question."""


def shown_images(images: QuestionImages) -> tuple[Image.Image, ...]:
    """The images of a question as a tuple."""
    if images is None:
        return ()
    return (images,) if isinstance(images, Image.Image) else tuple(images)


@dataclass(frozen=True, kw_only=True)
class TextSampling:
    """A request for ``rollouts`` answers to each question about what ``images`` has for it.

    images: an entry for each question. questions: about the images. rollouts: answers per question. temperature: 0 is
    greedy decoding. top_k, top_p: as in ``RolloutSettings``, for a policy that ``truncates``. max_new_tokens: maximum
    length of an answer. seed: of the noise. first_prompt: index of the first prompt for the noise, for a request that
    is a part of a larger one.
    """

    images: Sequence[QuestionImages]
    questions: Sequence[str]
    rollouts: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int
    seed: int = 0
    first_prompt: int = 0

    @property
    def shown(self) -> list[tuple[Image.Image, ...]]:
        """The images of each question. Raises ValueError unless there is one entry for each."""
        if len(self.images) != len(self.questions):
            raise ValueError(
                f"{len(self.images)} images came with {len(self.questions)} questions; give one entry for each."
            )
        return [shown_images(one) for one in self.images]


@dataclass(frozen=True, kw_only=True)
class ImageSampling:
    """A request for ``rollouts`` images of each prompt.

    prompts: descriptions of the images. rollouts: images per prompt. guidance: weight of classifier-free guidance; 1
    turns it off. branch: which log-probs the trajectories carry, those of the guided predictions, which are sampled
    from, or of the conditional ones. temperature, top_k, top_p, seed, first_prompt: see ``TextSampling``.
    """

    prompts: Sequence[str]
    rollouts: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float
    branch: LogProbBranch = "guided"
    seed: int = 0
    first_prompt: int = 0


@dataclass(frozen=True, kw_only=True)
class EditSampling:
    """A request for ``rollouts`` edits of each image by its instruction.

    images: one per instruction. instructions: what to change. rollouts: edits per image. guidance: weight of guidance
    against the prompt without the instruction; 1 turns it off. image_guidance: likewise against the one without the
    image. branch: see ``ImageSampling``. temperature, seed, first_prompt: see ``TextSampling``.
    """

    images: Sequence[Image.Image]
    instructions: Sequence[str]
    rollouts: int = 1
    temperature: float = 1.0
    guidance: float
    image_guidance: float
    branch: LogProbBranch = "guided"
    seed: int = 0
    first_prompt: int = 0


class CannotEdit(ValueError):
    """A policy without image editing was asked to edit."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The policy {name} cannot edit images; choose a model that can, such as Lumina-DiMOO."
        )


def cannot_show_several(name: str, count: int) -> str:
    """The end of a sentence about a question whose images a policy cannot be shown."""
    return f"shows {count} images, but the policy {name} takes one a question"


class CannotShowSeveral(ValueError):
    """A policy that takes one image a question was given several."""

    def __init__(self, name: str, question: str, count: int) -> None:
        super().__init__(f"The question {question[:80]!r} {cannot_show_several(name, count)}.")


class NoVisionTower(ValueError):
    """A policy without a vision tower was asked for features of images."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The policy {name} has no vision tower; choose another image encoder.")


class CannotTruncate(ValueError):
    """A policy without top-k and top-p was asked to sample with them."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The policy {name} cannot sample with top_k or top_p; set rollout.top_k to 0 and rollout.top_p to 1."
        )


@dataclass(frozen=True, kw_only=True)
class ScoredAnswer:
    """An answer that was given.

    log_probs: [T] float32, of its tokens at temperature 1, without gradient. greedy: whether a greedy answer begins
    with these tokens.
    """

    log_probs: Tensor
    greedy: bool
