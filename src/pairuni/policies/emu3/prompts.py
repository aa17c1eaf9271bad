"""Emu3's prompts, by its processor: questions, generation prompts, and their unconditional prompts."""

from __future__ import annotations

import re
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Emu3Processor

from pairuni.io.rgb import as_rgb
from pairuni.policies.emu3.grid import Grid

SYSTEM_PROMPT = "You are a helpful assistant."
"""Of the authors' chat format (baaivision/Emu3, ``emu3/mllm/processing_emu3.py``)."""

NEGATIVE_PROMPT = (
    "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality, "
    "low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry."
)
"""The unconditional prompt of the authors' classifier-free guidance (baaivision/Emu3, ``image_generation.py``)."""

_VISUAL_TOKEN = r"<\|visual token \d+\|>"


class Emu3Prompts:
    """Token ids of prompts. Raises ValueError for a processor without a chat template."""

    def __init__(self, processor: Emu3Processor) -> None:
        if processor.chat_template is None:
            raise ValueError("The processor has no chat template; copy chat_template.json of the checkpoint.")
        self.processor, tokenizer = processor, processor.tokenizer
        self.image = int(processor.image_token_id)
        self._begin_image = int(tokenizer.convert_tokens_to_ids(processor.image_start_token))
        self._negative = self._ids(processor(text=[NEGATIVE_PROMPT], return_tensors="pt"))
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special = {*added, *tokenizer.all_special_tokens}
        # one pattern for the visual tokens, which are many
        named = sorted(
            (one for one in special if not re.fullmatch(_VISUAL_TOKEN, one)), key=len, reverse=True
        )
        self._special = re.compile("|".join([_VISUAL_TOKEN, *map(re.escape, named)]))

    def question(self, text: str, image: Image.Image | None) -> Any:
        """The processor's inputs for a question: placeholders in input_ids [1, P] stand for the image's tokens."""
        content = [{"type": "image"}] * (image is not None) + [{"type": "text", "text": self._checked(text)}]
        messages = [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]},
            {"role": "user", "content": content},
        ]
        chat = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        images = None if image is None else [as_rgb(image)]
        return self.processor(text=[chat], images=images, return_tensors="pt")

    def drawing(self, text: str, grid: Grid) -> Tensor:
        """[P] ids of a generation prompt; its end announces the size of the picture."""
        inputs = self.processor(
            text=[self._checked(text)],
            return_for_image_generation=True,
            ratio=f"{grid.width}:{grid.height}",
            image_area=grid.height * grid.width * self.processor.downsample_ratio**2,
            return_tensors="pt",
        )
        assert list(inputs["image_sizes"][0]) == [grid.height, grid.width]
        return self._ids(inputs)

    def unconditional(self, prompt_ids: Tensor) -> Tensor:
        """The unconditional prompt [U] of a generation prompt [P]: the negative prompt, for the same size."""
        return torch.cat([self._negative, prompt_ids[self._begin(prompt_ids) :]])

    def grid(self, prompt_ids: Tensor) -> Grid:
        """The size of the picture that a generation prompt [P] announces between two special tokens."""
        size = self.processor.tokenizer.decode(prompt_ids[self._begin(prompt_ids) + 1 : -1])
        height, width = size.split("*")
        return Grid(int(height), int(width))

    def fault(self, text: str) -> str | None:
        """Why ``text`` cannot be a question or a generation prompt: it contains a special token."""
        found = self._special.search(text)
        return f"contains the special token {found[0]}; remove it" if found else None

    def _begin(self, prompt_ids: Tensor) -> int:
        return int((prompt_ids == self._begin_image).nonzero()[-1])

    def _checked(self, text: str) -> str:
        fault = self.fault(text)
        if fault is not None:
            raise ValueError(f"The text {text[:80]!r} {fault}.")
        return text

    def _ids(self, inputs: Any) -> Tensor:
        ids: Tensor = inputs["input_ids"][0]
        return ids
