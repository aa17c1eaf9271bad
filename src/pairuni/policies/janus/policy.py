"""Janus and Janus-Pro behind the ``UnifiedPolicy`` interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.config import PolicySettings
from pairuni.io.files import atomic_folder
from pairuni.policies.autoregressive import AutoregressivePolicy, ImageTokens, TextTokens, TokenTrajectory
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.janus.generation import stop_ids
from pairuni.policies.janus.images import vq_codes, vq_pixels
from pairuni.policies.janus.inputs import IMAGE_BATCH
from pairuni.policies.janus.loading import load_model, no_progress_bar
from pairuni.policies.janus.parts import JanusParts
from pairuni.policies.janus.sampling import ImageRollouts, TextRollouts
from pairuni.policies.janus.scoring import JanusScorer
from pairuni.policies.janus.tokenizer import read_tokenizer, write_processor
from pairuni.policies.llama_policy import LlamaPolicy
from pairuni.policies.policy import ImageSampling, ScoredAnswer, TextSampling

_TOKENS_PER_BYTE = 4
"""Never exceeded: a byte is at most one token, and more only where a tokenizer's normaliser spells it out."""


class JanusPolicy(LlamaPolicy[TextTokens, ImageTokens, JanusParts], AutoregressivePolicy):
    """A ``JanusForConditionalGeneration`` and its processor."""

    module: JanusForConditionalGeneration
    truncates = True

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
        self.processor = processor
        super().__init__(model)
        self._tokenizer_json = tokenizer
        self.default_guidance = float(model.generation_config.guidance_scale or self.default_guidance)
        self.image_tokens = int(model.config.vq_config.num_patches) ** 2
        self.stop_ids = stop_ids(model.generation_config, processor)
        self.prompts = self.inference.inputs.prompts
        self.loop = loop or DecodeLoop(self.inference.layers)

    def _parts(self, model: JanusForConditionalGeneration) -> JanusParts:
        return JanusParts(model, self.processor)

    def _use_for_decoding(self, parts: JanusParts) -> None:
        super()._use_for_decoding(parts)
        self.loop = self.loop.with_layers(parts.layers)

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

    def _score(
        self, parts: JanusParts, trajectories: Sequence[TokenTrajectory], *, checkpointing: bool
    ) -> list[Tensor]:
        return JanusScorer(parts).log_probs(trajectories, checkpointing=checkpointing)

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
        rows = self._score(self.inference, given, checkpointing=False)
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

    # Saving

    def save_pretrained(self, folder: Path) -> None:
        """As ``UnifiedPolicy.save_pretrained``; other files in the folder stay, weights of an earlier save do not."""
        self._check_current()
        with atomic_folder(Path(folder), keep_all_but="model*.safetensors*") as partial, no_progress_bar():
            self.inference_module.save_pretrained(partial)
            write_processor(self.processor, partial, self._tokenizer_json)


def load_janus(
    folder: Path, *, name: str, device: torch.device, dtype: torch.dtype, settings: PolicySettings | None
) -> JanusPolicy:
    """The policy in a checkpoint folder of either layout; on the device "meta" without its weights.

    Janus has no settings that loading needs.
    """
    model, processor = load_model(folder, dtype=dtype, weights=device.type != "meta")
    return JanusPolicy(model.to(device), processor, name=name, tokenizer=read_tokenizer(folder))
