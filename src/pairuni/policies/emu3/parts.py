"""One set of Emu3 weights, as sampling and scoring use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Emu3ForConditionalGeneration, Emu3Processor

from pairuni.policies.autoregressive import ImageTokens
from pairuni.policies.decoding.sampling import Head
from pairuni.policies.emu3.prompts import Emu3Prompts
from pairuni.policies.parts import LANGUAGE_MODEL
from pairuni.policies.projection import LinearRows
from pairuni.policies.token_parts import TokenInputs, TokenParts


class Emu3Inputs(TokenInputs):
    """Embeddings of text and of images, whose tokens are part of the vocabulary.

    A drawn image's tokens are its codes and ``line_end``. Raises ValueError for a vocabulary whose visual tokens are
    not consecutive.
    """

    def __init__(self, model: Emu3ForConditionalGeneration, processor: Emu3Processor) -> None:
        self.model, self.prompts = model, Emu3Prompts(processor)
        self.embed_text = model.get_input_embeddings()
        mapping = model.vocabulary_mapping
        ids = [mapping.img2bpe.get(code, -1) for code in range(model.config.vq_config.codebook_size)]
        self.first_code, self.line_end = ids[0], len(ids)
        if ids != list(range(ids[0], ids[0] + len(ids))) or ids[0] < 0:
            raise ValueError(
                f"The vocabulary_map of config.json does not give the {len(ids)} visual tokens consecutive ids in the "
                "order of their codes; use the configuration of the released model."
            )
        self._ids_of_codes = torch.tensor([*ids, mapping.eol_token_id], device=self.device)

    def embed_codes(self, codes: Tensor) -> Tensor:
        embeds: Tensor = self.embed_text(self._ids_of_codes[codes])
        return embeds

    def embed_texts(self, rows: Sequence[Tensor], images: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
        """As ``TokenInputs.embed_texts``; the ids hold the images."""
        embeds: Tensor = self.embed_text(torch.cat(list(rows)).to(self.device))
        return embeds.split([len(row) for row in rows])

    def embed_images(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        assert not pixels, "Emu3's questions hold the tokens of their images"
        return []

    @torch.no_grad()
    def image_ids(self, inputs: Any) -> Tensor:
        """[h (w + 1)] ids of the image in a question's inputs, on the CPU: its VQ tokens, row by row."""
        pixels = inputs["pixel_values"].to(self.device)
        ids: Tensor = self.model.model.get_image_tokens(pixels, inputs["image_sizes"])
        return ids.long().cpu()

    def unconditional(self, prompt_ids: Tensor) -> Tensor:
        return self.prompts.unconditional(prompt_ids)

    def read(self, image: ImageTokens) -> tuple[Tensor, Tensor | None]:
        grid = self.prompts.grid(image.prompt_ids)
        return grid.with_line_ends(image.tokens, self.line_end), grid.codes


class Emu3Parts(TokenParts):
    """Inputs, decoder layers, and two heads on the same rows: any token for text, the visual tokens for pictures."""

    model: Emu3ForConditionalGeneration
    inputs: Emu3Inputs

    def __init__(self, model: Emu3ForConditionalGeneration, processor: Emu3Processor) -> None:
        super().__init__(model, model.model.text_model)
        self.inputs = Emu3Inputs(model, processor)
        visual = LinearRows(model.lm_head, self.inputs.first_code, self.inputs.line_end)
        self.text_head = Head(features=_unchanged, project=model.lm_head)
        self.image_head = Head(features=_unchanged, project=visual)

    @property
    def by_name(self) -> dict[str, list[nn.Module]]:
        return {LANGUAGE_MODEL: [self.decoder, self.model.lm_head]}


def _unchanged(states: Tensor) -> Tensor:
    return states
