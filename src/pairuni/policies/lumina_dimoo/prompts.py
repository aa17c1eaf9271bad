"""Token ids of Lumina-DiMOO's prompts: questions, drawings, edits, and their unconditional prompts.

System prompts, tags and the order of tokens are those of the original code (Alpha-VLLM/Lumina-DiMOO,
``utils/prompt_utils.py``, ``inference/inference_t2i.py``, ``inference/inference_i2i.py``, ``train/train.py``). For
questions the training's order is followed; ``inference/inference_mmu.py`` breaks the lines of a picture twice and so
loses its end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pairuni.policies.lumina_dimoo.ids import NAMES, TokenIds

QUESTION = (
    "You are a multimodal model that can process both text and images. Answer the following question based on the "
    "provided images. Analyze each image and combine relevant details to answer."
)
DRAWING = "Generate an image according to the text prompt."
EDITING = "Generate an image applying the following editing instruction based on the original image."

_TAGS = ("<system>", "</system>", "<user>", "</user>")


@dataclass(frozen=True, eq=False)
class Prompt:
    """What stands before the answer: the conditional ids [P] and those without a condition, with their strengths.

    unconditional: (ids [U], s) pairs; logits are guided as c + the sum of s (c - u), see ``model.guided``.
    """

    ids: Tensor
    unconditional: tuple[tuple[Tensor, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Canvas:
    """What follows a prompt: ids [L] with the mask where a token is still to be set, and the places [T] of those."""

    ids: Tensor
    holes: Tensor


class LuminaPrompts:
    """Prompts of a tokenizer and the special ids that go with it."""

    def __init__(self, tokenizer: Any, ids: TokenIds) -> None:
        self.tokenizer, self.ids = tokenizer, ids
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= {*_TAGS, *NAMES.values(), *tokenizer.all_special_tokens}
        found = sorted((one for one in special if one), key=len, reverse=True)
        self._special = re.compile("|".join(re.escape(one) for one in found))

    def question(self, text: str, picture: Tensor | None) -> Prompt:
        """A question, with the codes [h, w] of its picture or without a picture."""
        return Prompt(self._with_picture(self._encode(QUESTION, self._checked(text)), picture))

    def drawing(self, text: str, guidance: float) -> Prompt:
        """A drawing, guided as u + guidance (c - u); 1 is no guidance. The original's scale is guidance - 1."""
        ids = self._encode(DRAWING, self._checked(text))
        return Prompt(ids, self._guided((self._unconditional(DRAWING), guidance - 1)))

    def editing(self, text: str, picture: Tensor, guidance: float, image_guidance: float) -> Prompt:
        """An edit of the picture with codes [h, w].

        Both guidances are 1 more than the original's scales: ``guidance`` against the same prompt without the text,
        ``image_guidance`` against the one without the picture.
        """
        plain = self._encode(EDITING, self._checked(text))
        without_text = self._with_picture(self._unconditional(EDITING), picture)
        return Prompt(
            self._with_picture(plain, picture),
            self._guided((without_text, guidance - 1), (plain, image_guidance - 1)),
        )

    def fault(self, text: str) -> str | None:
        """Why ``text`` cannot be a question, a prompt or an instruction: it contains a special token."""
        found = self._special.search(text)
        return f"contains the special token {found[0]}; remove it" if found else None

    def text_canvas(self, length: int) -> Canvas:
        """An answer of ``length`` tokens."""
        ids = self.ids
        row = torch.tensor([ids.answer_start, *[ids.mask] * length, ids.answer_end])
        return Canvas(row, torch.arange(1, length + 1))

    def picture_canvas(self, height: int, width: int) -> Canvas:
        """A picture of height x width codes, in rows that end with a newline."""
        ids = self.ids
        masks = torch.full((height, width), ids.mask)
        row = torch.cat(
            [
                torch.tensor([ids.answer_start]),
                self.picture(masks - ids.codes),
                torch.tensor([ids.answer_end]),
            ]
        )
        return Canvas(row, (row == ids.mask).nonzero().squeeze(1))

    def picture(self, codes: Tensor) -> Tensor:
        """The ids of a picture with codes [h, w]: begin of image, rows that end with a newline, end of image."""
        ids = self.ids
        rows = torch.nn.functional.pad(codes + ids.codes, (0, 1), value=ids.newline)
        return torch.cat([torch.tensor([ids.image_start]), rows.flatten(), torch.tensor([ids.image_end])])

    def _guided(self, *branches: tuple[Tensor, float]) -> tuple[tuple[Tensor, float], ...]:
        return tuple((ids, strength) for ids, strength in branches if strength != 0)

    def _unconditional(self, system: str) -> Tensor:
        return self._encode(system, NAMES["uncondition"])

    def _with_picture(self, prompt: Tensor, picture: Tensor | None) -> Tensor:
        """A picture stands before the last token of a prompt, the end of the user's turn."""
        return prompt if picture is None else torch.cat([prompt[:-1], self.picture(picture), prompt[-1:]])

    def _checked(self, text: str) -> str:
        fault = self.fault(text)
        if fault is not None:
            raise ValueError(f"The text {text[:80]!r} {fault}.")
        return text

    def _encode(self, system: str, user: str) -> Tensor:
        text = f"<system>{system}</system><user>{user}</user>"
        encoded: Mapping[str, Any] = self.tokenizer(text)
        return torch.tensor(encoded["input_ids"], dtype=torch.long)
