"""What a model that reads and writes tokens gives to sampling and scoring: input embeddings and heads."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pairuni.policies.autoregressive import ImageTokens
from pairuni.policies.decoding.sampling import Head
from pairuni.policies.parts import ModelParts


class TokenInputs(ABC):
    """Tokens and pixels -> input embeddings, with gradient where weights train.

    embed_text: text ids [N] -> [N, H]. embed_codes: tokens of images [N] -> [N, H].
    """

    embed_text: nn.Embedding
    embed_codes: Callable[[Tensor], Tensor]

    @property
    def device(self) -> torch.device:
        return self.embed_text.weight.device

    @abstractmethod
    def embed_texts(self, rows: Sequence[Tensor], images: Sequence[Sequence[Tensor]]) -> Sequence[Tensor]:
        """[P_i, H] embeddings of rows of ids [P_i], each with the embedded images of its question, in order."""

    def embed_prompt(self, prompt_ids: Tensor, images: Sequence[Tensor] = ()) -> Tensor:
        """[P, H] embeddings of one prompt."""
        return self.embed_texts([prompt_ids], [images])[0]

    @abstractmethod
    def embed_images(self, pixels: Sequence[Tensor]) -> list[Tensor]:
        """[T, H] of each image of questions, from ``TextTokens.pixel_values``."""

    @abstractmethod
    def unconditional(self, prompt_ids: Tensor) -> Tensor:
        """The unconditional prompt [U] of a generation prompt [P]."""

    def read(self, image: ImageTokens) -> tuple[Tensor, Tensor | None]:
        """The tokens [S] of a drawn image as the model reads them, and the positions [T] of the decisions among them.

        Without positions every token is a decision.
        """
        return image.tokens, None


class TokenParts(ModelParts):
    """One set of weights with inputs and heads."""

    inputs: TokenInputs
    text_head: Head
    image_head: Head


def digest(pixels: Tensor) -> bytes:
    """A key that images of the same content share."""
    return hashlib.blake2b(pixels.contiguous().numpy().tobytes()).digest()
