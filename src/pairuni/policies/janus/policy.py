"""Janus and Janus-Pro behind the ``UnifiedPolicy`` interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.config import LoRASettings
from pairuni.io.files import atomic_folder
from pairuni.policies.adapters import (
    base_parameters,
    inject_lora,
    is_adapter,
    load_adapter_tensors,
    lora_config,
    read_adapter,
    save_adapter,
)
from pairuni.policies.autoregressive import AutoregressivePolicy, ImageTokens, TextTokens, TokenTrajectory
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.inference import InferenceWeights, own_parameters, set_parameter, sharing_copy
from pairuni.policies.janus.generation import stop_ids
from pairuni.policies.janus.images import vq_codes, vq_pixels
from pairuni.policies.janus.inputs import IMAGE_BATCH
from pairuni.policies.janus.loading import load_model, no_progress_bar
from pairuni.policies.janus.parts import JanusParts
from pairuni.policies.janus.reference import JanusReference, shard_janus
from pairuni.policies.janus.sampling import ImageRollouts, TextRollouts
from pairuni.policies.janus.scoring import JanusScorer
from pairuni.policies.janus.tokenizer import read_tokenizer, write_processor
from pairuni.policies.llama import place_for_decoding
from pairuni.policies.policy import ImageSampling, ScoredAnswer, TextSampling
from pairuni.policies.trajectories import TrajectoryLogProbs, padded

_TOKENS_PER_BYTE = 4
"""Never exceeded: a byte is at most one token, and more only where a tokenizer's normaliser spells it out."""


class JanusPolicy(AutoregressivePolicy):
    """A ``JanusForConditionalGeneration`` and its processor; the model stays in eval mode, without dropout."""

    module: JanusForConditionalGeneration

    def __init__(
        self,
        model: JanusForConditionalGeneration,
        processor: JanusProcessor,
        *,
        name: str = "janus",
        loop: DecodeLoop | None = None,
        tokenizer: bytes | None = None,
    ) -> None:
        """tokenizer: the content of tokenizer.json, which ``save_pretrained`` then writes unchanged."""
        self.name = name
        self._tokenizer_json = tokenizer
        self.module, self.processor = model.eval(), processor
        self.default_guidance = float(model.generation_config.guidance_scale or self.default_guidance)
        self.image_tokens = int(model.config.vq_config.num_patches) ** 2
        self.stop_ids = stop_ids(model.generation_config, processor)
        place_for_decoding(model.model.language_model)
        self._training = self.inference = JanusParts(model, processor)
        self._inference_weights: InferenceWeights | None = None
        self._lora: dict[str, Any] | None = None
        self.prompts = self.inference.inputs.prompts
        self.loop = loop or DecodeLoop(self.inference.layers)

    @property
    def inference_module(self) -> JanusForConditionalGeneration:
        return self.inference.model

    # Sampling

    def sample_text(self, request: TextSampling) -> list[list[TextTokens]]:
        self._check_current()
        texts = TextRollouts(self, request)
        return texts.trajectories(self.loop.run([texts.request])[0])

    def sample_images(self, request: ImageSampling) -> list[list[ImageTokens]]:
        self._check_current()
        images = ImageRollouts(self, request)
        return images.trajectories(self.loop.run([images.request])[0])

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[TextTokens]], list[list[ImageTokens]]]:
        self._check_current()
        text, image = TextRollouts(self, texts), ImageRollouts(self, images)
        text_rollouts, image_rollouts = self.loop.run([text.request, image.request])
        return text.trajectories(text_rollouts), image.trajectories(image_rollouts)

    @torch.no_grad()
    def decode_images(self, trajectories: Sequence[ImageTokens]) -> list[Image.Image]:
        images = []
        for start in range(0, len(trajectories), IMAGE_BATCH):
            batch = trajectories[start : start + IMAGE_BATCH]
            tokens = torch.stack([trajectory.tokens for trajectory in batch]).to(self.device)
            decoded = self.inference_module.decode_image_tokens(tokens).float()
            for pixels in ((decoded + 1) / 2 * 255).clamp(0, 255).to(torch.uint8).cpu().numpy():
                images.append(Image.fromarray(np.ascontiguousarray(pixels), mode="RGB"))
        return images

    def answer(self, image: Image.Image | None, question: str, *, max_new_tokens: int | None = None) -> str:
        """The greedy answer to one question; by default up to 512 tokens, or fewer in a shorter context."""
        if max_new_tokens is None:
            prompt = self.prompts.understanding(question, with_image=image is not None)
            max_new_tokens = max(1, min(512, self.context - len(prompt)))
        return super().answer(image, question, max_new_tokens=max_new_tokens)

    # Checks

    @property
    def context(self) -> int:
        """Positions of the language model."""
        return int(self.module.config.text_config.max_position_embeddings)

    def check_context(self, prompts: Sequence[Tensor], steps: int) -> None:
        """Raise ValueError when a prompt and ``steps`` new tokens do not fit the model's context."""
        positions = max((len(prompt) for prompt in prompts), default=0) + steps
        if positions > self.context:
            raise ValueError(
                f"The longest prompt and {steps} new tokens need {positions} positions, but the model has "
                f"{self.context}; shorten the prompt or lower the number of new tokens."
            )

    def question_fault(self, text: str) -> str | None:
        return self.prompts.fault(text)

    def question_faults(self, questions: Sequence[str], max_new_tokens: int) -> dict[str, str]:
        return self._faults(
            questions, lambda text: self.prompts.understanding(text, with_image=True), max_new_tokens
        )

    def prompt_faults(self, prompts: Sequence[str]) -> dict[str, str]:
        return self._faults(prompts, self.prompts.generation, self.image_tokens)

    def _faults(self, texts: Sequence[str], encode: Callable[[str], Tensor], steps: int) -> dict[str, str]:
        """Only texts that may be too long are tokenized."""
        room = self.context - steps - len(encode("a"))
        faults = {}
        for text in texts:
            fault = self.question_fault(text)
            if fault is None and _TOKENS_PER_BYTE * len(text.encode(errors="replace")) > room:
                needed = len(encode(text)) + steps
                if needed > self.context:
                    fault = (
                        f"needs {needed:,} positions with {steps:,} new tokens, but the model has "
                        f"{self.context:,}; shorten it or lower the number of new tokens"
                    )
            if fault is not None:
                faults[text] = fault
        return faults

    # Scoring

    def log_probs(self, trajectories: Sequence[TokenTrajectory]) -> TrajectoryLogProbs:
        if not trajectories:
            raise ValueError("log_probs was given no trajectories.")
        rows = JanusScorer(self._training).log_probs(
            trajectories, checkpointing=self.activation_checkpointing
        )
        return padded(rows)

    @torch.no_grad()
    def score_text(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], answers: Sequence[str]
    ) -> list[ScoredAnswer]:
        """As ``UnifiedPolicy.score_text``. Raises ValueError for an answer without tokens."""
        given = []
        for image, question, answer in zip(images, questions, answers, strict=True):
            ids = self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
            if not ids:
                raise ValueError(
                    f"An answer to {question[:80]!r} is empty; give at least one token to score."
                )
            given.append(
                TextTokens(
                    tokens=torch.tensor(ids),
                    log_probs=torch.zeros(len(ids)),
                    prompt_ids=self.prompts.understanding(question, with_image=image is not None),
                    pixel_values=None if image is None else self.pixel_values([image])[0],
                    temperature=1.0,
                    finished=False,
                    text=answer,
                )
            )
        if not given:
            return []
        longest = max(len(one.tokens) for one in given)
        self.check_context([one.prompt_ids for one in given], longest)
        self._check_current()
        rows = JanusScorer(self.inference).log_probs(given, checkpointing=False)
        greedy = self.sample_text(
            TextSampling(images=images, questions=questions, temperature=0.0, max_new_tokens=longest)
        )
        return [
            ScoredAnswer(
                log_probs=row.float().cpu(),
                greedy=torch.equal(said.tokens[: len(one.tokens)], one.tokens),
            )
            for one, row, (said,) in zip(given, rows, greedy, strict=True)
        ]

    # Features and codes

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, 3, S, S] float32 on the CPU, by the checkpoint's own preprocessing with PIL."""
        return self.inference.inputs.pixel_values(images)

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """Mean over the patches of the vision tower's last hidden state, [N, D] float32 on the CPU."""
        features = [torch.zeros(0, self.module.config.vision_config.hidden_size)]
        for start in range(0, len(images), IMAGE_BATCH):
            states = self.inference.inputs.vision_states(
                self.pixel_values(images[start : start + IMAGE_BATCH])
            )
            features.append(states.float().mean(dim=1).cpu())
        return torch.cat(features)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """VQ codes of images, [N, T] int64 on the CPU; see ``vq_codes``."""
        codes = [torch.zeros(0, self.image_tokens, dtype=torch.long)]
        for start in range(0, len(images), IMAGE_BATCH):
            pixels = self.pixel_values(images[start : start + IMAGE_BATCH])
            pixels = vq_pixels(pixels, self.processor.image_processor)
            codes.append(vq_codes(self.inference_module.model.vqmodel, pixels).cpu())
        return torch.cat(codes)

    # Training

    def add_adapters(self, settings: LoRASettings, *, seed: int) -> None:
        assert self._inference_weights is None, "adapters come first, and once"
        layers = "|".join(settings.targets)
        self._lora = lora_config(settings, rf".*language_model\.layers\.\d+\.(self_attn|mlp)\.({layers})")
        self._inject(self._lora, seed)
        names = {
            name.rpartition(".")[0] for name, _ in self.module.named_modules() if name.endswith(".lora_A")
        }
        unused = [one for one in settings.targets if not any(name.endswith(f".{one}") for name in names)]
        if unused:
            raise ValueError(f"policy.lora.targets: the model's layers have no {', '.join(unused)}")
        if settings.adapter is not None:
            found, tensors = read_adapter(settings.adapter)
            for key, name in (("r", "rank"), ("lora_alpha", "alpha")):
                if found[key] != self._lora[key]:
                    raise ValueError(
                        f"policy.lora.{name} is {self._lora[key]}, but the adapter in {settings.adapter} has "
                        f"{found[key]}; use its value"
                    )
            load_adapter_tensors(self.module, tensors, settings.adapter)
        self.refresh_inference()

    def load_adapter(self, folder: Path) -> None:
        """Add an adapter's weights to those of the model. Raises ValueError if it does not fit."""
        config, tensors = read_adapter(folder)
        self._inject(config, 0)
        load_adapter_tensors(self.module, tensors, folder)
        self.merge_adapters()

    def merge_adapters(self) -> None:
        if self._inference_weights is not None:
            self.refresh_inference()
            self.module = self.inference.model
            self._training, self._inference_weights, self._lora = self.inference, None, None

    def _inject(self, config: Mapping[str, Any], seed: int) -> None:
        """Add adapters to the training weights; decoding gets weights of its own where they are."""
        whole = sharing_copy(self.module)
        inject_lora(self.module, config, seed=seed)
        adapted = [name for name, part in self.module.named_modules() if hasattr(part, "lora_A")]
        own_parameters(whole, [f"{name}.weight" for name in adapted])
        self._decode_with(whole)

    def _decode_with(self, whole: JanusForConditionalGeneration) -> None:
        """Decode with the weights of this module from now on."""
        place_for_decoding(whole.model.language_model)
        self.inference = JanusParts(whole.eval(), self.processor)
        self._inference_weights = InferenceWeights(whole, self.module)
        self.loop = self.loop.with_layers(self.inference.layers)

    def refresh_inference(self) -> None:
        if self._inference_weights is not None:
            self._inference_weights.refresh()

    def _check_current(self) -> None:
        if self._inference_weights is not None:
            self._inference_weights.check_current()

    def reference(self) -> JanusReference:
        model = sharing_copy(self.inference_module)
        for name, parameter in base_parameters(self.module):
            value = parameter
            if parameter.requires_grad:
                value = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            set_parameter(model, name, value)
        return JanusReference(JanusParts(model, self.processor), shared=self.inference_module)

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        if self._inference_weights is None:
            self._decode_with(sharing_copy(self.module))
        shard_janus(self._training, mesh, self.inference_module, reshard_after_forward)
        self.refresh_inference()

    def train_only(self, parts: Sequence[str]) -> list[tuple[str, nn.Parameter]]:
        known = self._training.by_name
        unknown = [part for part in parts if part not in known]
        if unknown:
            raise ValueError(
                f"The policy has no part {', '.join(unknown)}; its parts are {', '.join(known)}."
            )
        if self._lora is not None and "language_model" not in parts:
            raise ValueError(
                "policy.lora adapts the language model, but policy.trainable does not name language_model"
            )
        self.module.requires_grad_(False)
        for part in parts:
            for module in known[part]:
                for name, parameter in module.named_parameters():
                    adapted = self._lora is not None and part == "language_model"
                    parameter.requires_grad_(is_adapter(name) or not adapted)
        return self.trained()

    # Saving

    def save_pretrained(self, folder: Path) -> None:
        """As ``UnifiedPolicy.save_pretrained``; other files in the folder stay, weights of an earlier save do not."""
        self._check_current()
        with atomic_folder(Path(folder), keep_all_but="model*.safetensors*") as partial, no_progress_bar():
            self.inference_module.save_pretrained(partial)
            write_processor(self.processor, partial, self._tokenizer_json)

    def save_adapter(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        assert self._lora is not None, "there is no adapter to save"
        base = str(Path(self.name).resolve()) if Path(self.name).is_dir() else self.name
        parts = [f"model.{part}" for part, _ in self.module.model.named_children()]
        with atomic_folder(Path(folder)) as partial:
            save_adapter(weights, partial, self._lora, base=base, parts=parts)


def load_janus(folder: Path, *, name: str, device: torch.device, dtype: torch.dtype) -> JanusPolicy:
    """The policy in a checkpoint folder of either layout; on the device "meta" without its weights."""
    model, processor = load_model(folder, dtype=dtype, weights=device.type != "meta")
    return JanusPolicy(model.to(device), processor, name=name, tokenizer=read_tokenizer(folder))
