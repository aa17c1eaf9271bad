"""The interface that the trainer sees: a unified policy and a frozen reference."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from pairuni.config import LoRASettings, RolloutSettings
from pairuni.policies.costs import ReplayCost, RolloutCost
from pairuni.policies.requests import (
    CannotEdit,
    CannotShowSeveral,
    CannotTruncate,
    EditSampling,
    ImageSampling,
    NoVisionTower,
    QuestionImages,
    ScoredAnswer,
    TextSampling,
    cannot_show_several,
)
from pairuni.policies.trajectories import (
    ImageTrajectory,
    TextTrajectory,
    Trajectory,
    TrajectoryLogProbs,
)

Text = TypeVar("Text", bound=TextTrajectory)
Drawing = TypeVar("Drawing", bound=ImageTrajectory)
Either = TypeVar("Either", bound=Trajectory)


class ReferencePolicy(ABC, Generic[Either]):
    """A policy whose weights stay as they are, for the KL term."""

    @abstractmethod
    def log_probs(self, trajectories: Sequence[Either]) -> Tensor:
        """[N, D] log-probs of the trajectories as ``UnifiedPolicy.log_probs`` gives them, without gradient."""

    @abstractmethod
    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        """Split the weights over the processes of ``mesh``, as ``UnifiedPolicy.shard`` does.

        reshard_after_forward: free a layer's gathered weights after its forward pass.
        """


class FrozenCopy(ReferencePolicy[Any]):
    """A policy's copy, for policies that have no reference of their own."""

    def __init__(self, policy: UnifiedPolicy) -> None:
        self._policy = copy.deepcopy(policy)
        self._policy.module.requires_grad_(False)

    @torch.no_grad()
    def log_probs(self, trajectories: Sequence[Any]) -> Tensor:
        return self._policy.log_probs(trajectories).values

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        self._policy.shard(mesh, reshard_after_forward=reshard_after_forward)


class UnifiedPolicy(ABC, Generic[Text, Drawing]):
    """One model that answers questions about images and generates images from prompts.

    Text, Drawing: the trajectories of the model family.
    """

    name: str
    """What messages call it: the name or folder that it was loaded from."""
    module: nn.Module
    """The model, with all of its parts."""
    default_guidance: float = 5.0
    """Guidance of image generation unless a caller chooses another (paper: 5)."""
    edits: bool = False
    """Whether it edits images by an instruction."""
    default_edit_guidance: float = 3.5
    """Guidance of an edit against the prompt without the instruction, unless a caller chooses another."""
    default_image_guidance: float = 5.0
    """Likewise against the prompt without the image; both are Lumina-DiMOO's."""
    truncates: bool = False
    """Whether it samples with top_k and top_p, and scores its trajectories on the tokens that these kept."""
    several_images: bool = False
    """Whether a question may show several images."""
    activation_checkpointing: bool = False
    """Whether ``log_probs`` keeps one state per layer and recomputes the rest in the backward pass."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.module.parameters()).device

    @property
    def other_modules(self) -> Sequence[nn.Module]:
        """Frozen modules that are not part of ``module``, such as an image tokenizer."""
        return ()

    def check_truncation(self, sampling: RolloutSettings | TextSampling | ImageSampling) -> None:
        """Raise CannotTruncate, a ValueError, for a top_k or top_p of ``sampling`` that the policy would ignore."""
        if not self.truncates and (sampling.top_k != 0 or sampling.top_p != 1.0):
            raise CannotTruncate(self.name)

    def check_shown(self, request: TextSampling) -> None:
        """Raise CannotShowSeveral, a ValueError, if ``request`` has more images a question than the policy takes."""
        for images, question in zip(request.shown, request.questions, strict=True):
            if len(images) > 1 and not self.several_images:
                raise CannotShowSeveral(self.name, question, len(images))

    @abstractmethod
    def sample_text(self, request: TextSampling) -> list[list[Text]]:
        """One list of trajectories per question of ``request``, in order.

        A trajectory depends on the seed, on the index of its prompt (``first_prompt`` included) and of its rollout,
        not on how rows were batched.
        """

    @abstractmethod
    def sample_images(self, request: ImageSampling) -> list[list[Drawing]]:
        """One list of trajectories per prompt of ``request``, in order; reproducible as in ``sample_text``."""

    def sample_edits(self, request: EditSampling) -> list[list[Drawing]]:
        """One list of trajectories per image of ``request``, in order; reproducible as in ``sample_text``.

        Raises CannotEdit, a ValueError; a policy with ``edits`` overrides this.
        """
        raise CannotEdit(self.name)

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[Text]], list[list[Drawing]]]:
        """The results of ``sample_text`` for ``texts`` and ``sample_images`` for ``images``.

        A policy that can decode both in the same steps overrides this to save time.
        """
        return self.sample_text(texts), self.sample_images(images)

    @abstractmethod
    def decode_images(self, trajectories: Sequence[Drawing]) -> list[Image.Image]:
        """The images of trajectories, as RGB."""

    @abstractmethod
    def log_probs(self, trajectories: Sequence[Text | Drawing]) -> TrajectoryLogProbs:
        """Log-probs of the decisions of the trajectories, in their order, with gradient.

        Text and image trajectories may be mixed; each is replayed with its own temperature, guidance and branch. What
        the model is shown depends on the trajectory alone, so that old, new and reference log-probs are comparable.
        """

    @abstractmethod
    def replay_cost(self, trajectories: Sequence[Text | Drawing]) -> ReplayCost:
        """What one call of ``log_probs`` with these trajectories costs; called often, for micro-batches."""

    @abstractmethod
    def text_cost(self, rollout: RolloutSettings, images: int = 1) -> RolloutCost:
        """What the answers to one question about so many ``images`` cost at most, with the settings ``rollout``.

        A policy without weights suffices, as ``load_policy`` gives it with ``weights=False``.
        """

    @abstractmethod
    def image_cost(self, rollout: RolloutSettings) -> RolloutCost:
        """What the images of one prompt cost with the settings ``rollout``, likewise."""

    def question_fault(self, text: str) -> str | None:
        """Why ``text`` cannot be a question or a generation prompt, or None.

        The end of a sentence that begins with the name of the text. A policy with special tokens overrides this.
        """
        return None

    def question_faults(
        self, questions: Sequence[str], max_new_tokens: int, images: int = 1
    ) -> dict[str, str]:
        """The faults of questions about so many images each, by question, worded as in ``question_fault``.

        max_new_tokens: length of the answers for which the context must have room.

        A policy with a limited context overrides this; it must be fast for 100,000 questions.
        """
        if images > 1 and not self.several_images:
            return dict.fromkeys(questions, cannot_show_several(self.name, images))
        return {text: fault for text in questions if (fault := self.question_fault(text)) is not None}

    def prompt_faults(self, prompts: Sequence[str]) -> dict[str, str]:
        """The faults of generation prompts, likewise."""
        return {text: fault for text in prompts if (fault := self.question_fault(text)) is not None}

    def answer(self, images: QuestionImages, question: str, *, max_new_tokens: int | None = None) -> str:
        """The greedy answer to one question.

        images: what the question is about, one or several; None for a text-only question. max_new_tokens: maximum
        length of the answer; by default 512.
        """
        request = TextSampling(
            images=[images], questions=[question], temperature=0.0, max_new_tokens=max_new_tokens or 512
        )
        return self.sample_text(request)[0][0].text

    def generate_images(
        self,
        prompt: str,
        count: int = 1,
        *,
        guidance: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> list[Image.Image]:
        """RGB images of one prompt.

        count: their number. guidance: weight of classifier-free guidance, 1 turns it off; None is
        ``default_guidance``. temperature: of sampling. seed: the same one gives the same images.
        """
        request = ImageSampling(
            prompts=[prompt],
            rollouts=count,
            temperature=temperature,
            guidance=self.default_guidance if guidance is None else guidance,
            seed=seed,
        )
        return self.decode_images(self.sample_images(request)[0])

    def edit_image(
        self,
        image: Image.Image,
        instruction: str,
        *,
        guidance: float | None = None,
        image_guidance: float | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> Image.Image:
        """The RGB image edited by an instruction.

        guidance: weight of guidance against the prompt without the instruction; None is ``default_edit_guidance``.
        image_guidance: likewise against the prompt without the image; None is ``default_image_guidance``. temperature,
        seed: as in ``generate_images``.

        Raises CannotEdit, a ValueError, if the policy has no ``edits``.
        """
        request = EditSampling(
            images=[image],
            instructions=[instruction],
            temperature=temperature,
            guidance=self.default_edit_guidance if guidance is None else guidance,
            image_guidance=self.default_image_guidance if image_guidance is None else image_guidance,
            seed=seed,
        )
        return self.decode_images(self.sample_edits(request)[0])[0]

    def score_text(
        self, images: Sequence[QuestionImages], questions: Sequence[str], answers: Sequence[str]
    ) -> list[ScoredAnswer]:
        """The log-probs of given ``answers`` to ``questions`` about ``images``, without an end-of-sequence id.

        A policy for benchmarks that rank answers by likelihood overrides this; others raise NotImplementedError.
        """
        raise NotImplementedError(f"The policy {self.name} cannot score answers that it did not sample.")

    @property
    def has_vision_tower(self) -> bool:
        """Whether it has ``image_features``."""
        return type(self).image_features is not UnifiedPolicy.image_features

    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Pooled features of ``images`` by the policy's own vision tower, [N, D] float32 on the CPU, not normalised.

        Raises NoVisionTower, a ValueError; a policy with a vision tower overrides this.
        """
        raise NoVisionTower(self.name)

    @abstractmethod
    def train_only(self, parts: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        """Freeze all but the named parts and return the names and parameters that train.

        Of a language model with adapters, the adapters train. Raises ValueError for an unknown part, naming the parts
        of this policy.
        """

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that train; ``shard`` replaces the parameters, not the names."""
        return [(name, one) for name, one in self.module.named_parameters() if one.requires_grad]

    def add_adapters(self, settings: LoRASettings, *, seed: int) -> None:
        """Add adapters (LoRA) to the language model; call it before ``train_only``.

        settings: rank, scale and layers. seed: initialises the adapters. Raises ValueError if the policy has no such
        layers.
        """
        raise ValueError(f"The policy {self.name} has no adapters; remove policy.lora.")

    def reference(self) -> ReferencePolicy:
        """The policy as it is now, without adapters; call it after ``train_only`` and before ``shard``."""
        return FrozenCopy(self)

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        """Split what trains over the processes of ``mesh``, see ``sharding.shard_module``.

        reshard_after_forward: free a layer's gathered weights after its forward pass.

        From then on ``log_probs``, its backward pass and ``refresh_inference`` are collectives; sampling is not.
        """
        raise ValueError(f"The policy {self.name} cannot be sharded; set distributed.strategy to replicate.")

    @property
    def inference_module(self) -> nn.Module:
        """The module that samples, with every weight whole and without adapters; often ``module`` itself."""
        return self.module

    def refresh_inference(self) -> None:
        """Bring ``inference_module`` up to date; call it whenever weights have changed."""
        return

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Write weights, configuration, tokenizer and processor to ``folder``, for plain ``transformers``.

        Adapters are merged.
        """

    def save_adapter(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the adapter alone to ``folder``, for ``peft`` to load, with the parts that train without adapter.

        weights: the values of ``trained``, by name and whole. Raises ValueError if the policy has no adapters.
        """
        raise ValueError(f"The policy {self.name} has no adapters to save.")

    def load_adapter(self, folder: Path) -> None:
        """Make the adapter in ``folder``, which ``save_adapter`` or ``peft`` wrote, part of the weights.

        Raises ValueError if it is damaged or does not fit.
        """
        raise ValueError(f"The policy {self.name} cannot load adapters.")

    def merge_adapters(self) -> None:
        """Make adapters, if there are any, part of the weights; the policy then has none."""
        return
