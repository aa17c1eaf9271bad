"""Janus and Janus-Pro behind the ``UnifiedPolicy`` interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.config import PolicySettings
from pairuni.io.files import atomic_folder
from pairuni.policies.autoregressive import ImageTokens
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.decoding_policy import DecodingPolicy
from pairuni.policies.janus.generation import stop_ids
from pairuni.policies.janus.images import vq_codes, vq_pixels
from pairuni.policies.janus.inputs import IMAGE_BATCH
from pairuni.policies.janus.loading import load_model
from pairuni.policies.janus.parts import JanusParts
from pairuni.policies.janus.tokenizer import read_tokenizer, write_processor
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.rollouts import ImageRollouts, TextRollouts
from pairuni.policies.tensors import no_progress_bar


class JanusPolicy(DecodingPolicy[JanusParts]):
    """A ``JanusForConditionalGeneration`` and its processor."""

    module: JanusForConditionalGeneration
    several_images = True

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
        super().__init__(model, loop)
        self._tokenizer_json = tokenizer
        self.default_guidance = float(model.generation_config.guidance_scale or self.default_guidance)
        self.image_tokens = int(model.config.vq_config.num_patches) ** 2
        self.stop_ids = stop_ids(model.generation_config, processor)
        self.prompts = self.inference.inputs.prompts

    def _parts(self, model: JanusForConditionalGeneration) -> JanusParts:
        return JanusParts(model, self.processor)

    # Sampling

    def _text_rollouts(self, request: TextSampling) -> TextRollouts:
        shown = request.shown
        ids = [
            self.prompts.understanding(question, images=len(images))
            for images, question in zip(shown, request.questions, strict=True)
        ]
        distinct = {id(image): image for images in shown for image in images}
        shared = {key: self.pixel_values([image])[0] for key, image in distinct.items()}
        pixels = [tuple(shared[id(image)] for image in images) for images in shown]
        return TextRollouts(
            self.inference, request, ids, pixels, stop_ids=self.stop_ids, tokenizer=self.processor.tokenizer
        )

    def _image_rollouts(self, request: ImageSampling) -> ImageRollouts:
        ids = [self.prompts.generation(prompt) for prompt in request.prompts]
        return ImageRollouts(self.inference, request, ids, steps=self.image_tokens)

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

    # Checks

    def question_fault(self, text: str) -> str | None:
        return self.prompts.fault(text)

    def question_faults(
        self, questions: Sequence[str], max_new_tokens: int, images: int = 1
    ) -> dict[str, str]:
        return self._faults(
            questions, lambda text: self.prompts.understanding(text, images=images), max_new_tokens, images
        )

    def prompt_faults(self, prompts: Sequence[str]) -> dict[str, str]:
        return self._faults(prompts, self.prompts.generation, self.image_tokens)

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
