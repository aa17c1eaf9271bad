"""What goes into Janus's language model: embeddings of prompts, questions' images and drawn tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import JanusForConditionalGeneration, JanusProcessor
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from pairuni.io.rgb import as_rgb
from pairuni.policies.janus.prompts import JanusPrompts

IMAGES_AT_ONCE = 32
"""Images that pass a vision tower or the VQ together."""


class JanusInputs:
    """Token ids and pixels -> input embeddings, with gradient where weights train."""

    def __init__(self, model: JanusForConditionalGeneration, processor: JanusProcessor) -> None:
        self.model, self.processor = model, processor
        self.prompts = JanusPrompts(processor)
        self.text = model.model.language_model.get_input_embeddings()
        self.drawn = model.prepare_embeddings_for_image_generation

    @property
    def device(self) -> torch.device:
        return self.text.weight.device

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, 3, S, S] float32 on the CPU, preprocessed as the original Janus code does; see ``preprocess``."""
        return torch.stack([preprocess(as_rgb(image), self.processor.image_processor) for image in images])

    def texts(self, rows: Sequence[Tensor], pictures: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """[P_i, H] embeddings of rows of ids [P_i], placeholders replaced by the row's image [T, H].

        Without an image a placeholder is a token like others. One lookup, so that the gradient of a large
        vocabulary exists once.
        """
        ids = torch.cat(list(rows)).to(self.device)
        embeds = self.text(ids)
        shown = [picture for picture in pictures if picture is not None]
        if shown:
            imaged = torch.cat(
                [
                    torch.full((len(row),), picture is not None)
                    for row, picture in zip(rows, pictures, strict=True)
                ]
            )
            replaced = (ids == self.prompts.image) & imaged.to(self.device)
            embeds = embeds.masked_scatter(replaced.unsqueeze(1), torch.cat(shown).to(embeds.dtype))
        return embeds.split([len(row) for row in rows])

    def prompt(self, prompt_ids: Tensor, image: Tensor | None = None) -> Tensor:
        """[P, H] embeddings of one prompt."""
        return self.texts([prompt_ids], [image])[0]

    def images(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """[T, H] of each image after the aligner; a frozen tower runs without graph."""
        embeds: list[Tensor] = []
        for start in range(0, len(pixels), IMAGES_AT_ONCE):
            states = self.vision_states(torch.stack(list(pixels[start : start + IMAGES_AT_ONCE])))
            embeds += self.model.model.aligner(states)
        return embeds

    def vision_states(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> last hidden states of the vision tower [N, T, D]."""
        tower = self.model.model.vision_model
        trains = any(parameter.requires_grad for parameter in tower.parameters())
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            return tower(pixels.to(self.device)).last_hidden_state


def preprocess(image: Image.Image, settings: JanusImageProcessorPil) -> Tensor:
    """[3, S, S] float32 of an RGB image: the longer side becomes S, the rest is padded on both sides.

    The authors' code, on which Janus was trained, cuts the fraction off the shorter side's length;
    ``transformers`` rounds it, which gives many photographs another row of pixels.
    """
    square = settings.size["height"]
    longest = max(image.size)
    width, height = (max(int(side / longest * square), settings.min_size) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling(settings.resample))
    side = max(width, height)
    padded = Image.new("RGB", (side, side), tuple(settings.background_color))
    padded.paste(scaled, ((side - width) // 2, (side - height) // 2))
    pixels = (np.asarray(padded).astype(np.float64) * settings.rescale_factor).astype(np.float32)
    if settings.do_normalize:
        mean, std = (np.asarray(values, np.float32) for values in (settings.image_mean, settings.image_std))
        pixels = (pixels - mean) / std
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def digest(pixels: Tensor | None) -> bytes:
    """What images of the same content share; empty where there is none."""
    return b"" if pixels is None else hashlib.blake2b(pixels.contiguous().numpy().tobytes()).digest()
