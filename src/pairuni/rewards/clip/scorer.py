"""Cosines of images and prompts under CLIP: batched, in float32, with a cache of text features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

from pairuni.io.hub import TEXT_FILES, model_folder
from pairuni.io.rgb import as_rgb
from pairuni.records import Annotation
from pairuni.rewards.clip.text import token_ids
from pairuni.rewards.pretrained import first_line, load_complete

TEXTS_KEPT = 4096
"""Text features in the cache, those of the prompts used last; 16 MiB at ViT-H-14's 1024 dimensions."""

Preprocess = Callable[[Sequence[Image.Image]], Tensor]
"""Images -> normalised [N, 3, height, width] in float32, on any device."""


class ClipScorer:
    """A CLIPModel with its preprocessing of images and prompts.

    clean: applied to a prompt before tokenization, or None. Raises ValueError if the tokenizer has more tokens than
    the model.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: Any,
        preprocess: Preprocess,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        clean: Callable[[str], str] | None = None,
    ) -> None:
        text = model.config.text_config
        if len(tokenizer) > text.vocab_size:
            raise ValueError(
                f"the tokenizer has {len(tokenizer):,} tokens and the model {text.vocab_size:,}: they do not belong "
                "together"
            )
        self.model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.device, self.dtype = device, dtype
        self.tokenizer, self._clean, self._preprocess = tokenizer, clean, preprocess
        self._length = text.max_position_embeddings
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def logit_scale(self) -> float:
        """The learned scale of the cosine in CLIP's logits."""
        return float(self.model.logit_scale.float().exp())

    @torch.inference_mode()
    def cosines(self, prompts: Sequence[str], images: Sequence[Image.Image], batch_size: int) -> list[float]:
        """Cosine of each image with its prompt, in [-1, 1]; ``batch_size`` images per forward pass."""
        scores: list[float] = []
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            texts = self.text_features(prompts[part])
            scores += (self.image_features(images[part]) * texts).sum(dim=1).tolist()
        return scores

    @torch.inference_mode()
    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        """L2-normalised features [N, D] of images, float32."""
        pixels = self._preprocess(images).to(self.device, self.dtype)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return normalize(self.model.visual_projection(pooled).float(), dim=1)

    @torch.inference_mode()
    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """L2-normalised features [N, D] of prompts, float32, from the cache where it has them."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if new:
            tokens = token_ids(self.tokenizer, new, self._length, self._clean).to(self.device)
            pooled = self.model.text_model(input_ids=tokens).pooler_output
            features = normalize(self.model.text_projection(pooled).float(), dim=1)
            self._texts.update(zip(new, features, strict=True))
        for prompt in prompts:
            self._texts.move_to_end(prompt)
        found = torch.stack([self._texts[prompt] for prompt in prompts])
        while len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        return found


def load_transformers_clip(source: str) -> CLIPModel:
    """A complete CLIPModel from the safetensors of a ``transformers`` folder or hub name. Raises ValueError."""
    folder = str(model_folder(source, kind="CLIP model"))
    model: CLIPModel = load_complete(CLIPModel, folder, what=f"CLIP model {source!r}")
    return model


def load_preprocessing(source: str) -> Preprocess:
    """The image preprocessing of a ``transformers`` folder or hub name, with PIL. Raises ValueError."""
    from transformers import CLIPImageProcessorPil

    folder = str(model_folder(source, kind="CLIP model", files=TEXT_FILES))
    try:
        processor = CLIPImageProcessorPil.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load the image preprocessing of {source!r}: {first_line(error)}") from None

    def preprocess(images: Sequence[Image.Image]) -> Tensor:
        pixels: Tensor = processor(
            images=[as_rgb(image, drop_alpha=True) for image in images], return_tensors="pt"
        )["pixel_values"]
        return pixels

    return preprocess


class CosineReward:
    """The cosine of image and prompt under a CLIP model."""

    name: str
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs = ("prompt",)

    def __init__(self, scorer: ClipScorer, batch_size: int) -> None:
        self._scorer, self._batch_size = scorer, batch_size
        self.models = (scorer.model,)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score per image. Raises ValueError if records and images differ in number."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} images to score")
        return self._scorer.cosines([record.prompt for record in records], samples, self._batch_size)
