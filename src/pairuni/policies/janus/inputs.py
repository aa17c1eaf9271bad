"""Inputs of Janus's language model: embeddings of prompts, of the images in questions, and of image codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.io.rgb import as_rgb
from pairuni.policies.janus.images import preprocess
from pairuni.policies.janus.prompts import JanusPrompts
from pairuni.policies.token_parts import TokenInputs

IMAGE_BATCH = 32
"""Images that pass the vision tower or the VQ together."""


class JanusInputs(TokenInputs):
    """Embeddings of text, of the vision tower's images, and of image codes by the generation aligner."""

    def __init__(self, model: JanusForConditionalGeneration, processor: JanusProcessor) -> None:
        self.model, self.processor = model, processor
        self.prompts = JanusPrompts(processor)
        self.embed_text = model.model.language_model.get_input_embeddings()
        self.embed_codes = model.prepare_embeddings_for_image_generation

    def pixel_values(self, images: Sequence[Image.Image]) -> Tensor:
        """[N, 3, S, S] float32 on the CPU, preprocessed as the original Janus code does; see ``preprocess``."""
        return torch.stack([preprocess(as_rgb(image), self.processor.image_processor) for image in images])

    def embed_texts(self, rows: Sequence[Tensor], images: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
        """[P_i, H] embeddings of rows of ids [P_i], placeholders replaced by the row's images [T, H], in order.

        Without images a placeholder is an ordinary token. One lookup for all rows, so that the gradient of a large
        vocabulary exists once.
        """
        ids = torch.cat(list(rows)).to(self.device)
        embeds = self.embed_text(ids)
        shown = [image for several in images for image in several]
        if shown:
            with_images = torch.cat(
                [torch.full((len(row),), len(several) > 0) for row, several in zip(rows, images, strict=True)]
            )
            replaced = (ids == self.prompts.image) & with_images.to(self.device)
            embeds = embeds.masked_scatter(replaced.unsqueeze(1), torch.cat(shown).to(embeds.dtype))
        return embeds.split([len(row) for row in rows])

    def embed_images(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """[T, H] of each image after the aligner; a frozen tower runs without a graph."""
        embeds: list[Tensor] = []
        for start in range(0, len(pixels), IMAGE_BATCH):
            states = self.vision_states(torch.stack(list(pixels[start : start + IMAGE_BATCH])))
            embeds += self.model.model.aligner(states)
        return embeds

    def vision_states(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> last hidden states of the vision tower [N, T, D]."""
        tower = self.model.model.vision_model
        trains = any(parameter.requires_grad for parameter in tower.parameters())
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            return tower(pixels.to(self.device)).last_hidden_state

    def unconditional(self, prompt_ids: Tensor) -> Tensor:
        return self.prompts.unconditional(prompt_ids)
