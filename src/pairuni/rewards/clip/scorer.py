"""Cosine of an image and its prompt under CLIP: batched, text features kept, in float32."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel

from pairuni.io.hub import TEXT_FILES, model_folder
from pairuni.io.rgb import as_rgb
from pairuni.rewards.clip.text import token_ids

TEXTS_KEPT = 4096
"""Prompts whose features are kept, the latest used; 16 MiB at ViT-H-14's 1024 numbers."""

Preprocess = Callable[[Sequence[Image.Image]], Tensor]
"""Images -> normalised [N, 3, height, width] in float32, on any device."""


class ClipScorer:
    """A CLIPModel with its preprocessing of images and prompts.

    clean: what happens to a prompt before its tokens; None is nothing. Raises ValueError when the tokenizer knows
    more tokens than the model.
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
                f"the tokenizer knows {len(tokenizer):,} tokens, the model {text.vocab_size:,}: they do not belong "
                "together"
            )
        self.model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        self.device, self.dtype = device, dtype
        self.tokenizer, self._clean, self._preprocess = tokenizer, clean, preprocess
        self._length = text.max_position_embeddings
        self._texts: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def logit_scale(self) -> float:
        """The learned factor of the cosine in CLIP's logits."""
        return float(self.model.logit_scale.float().exp())

    @torch.inference_mode()
    def cosines(self, prompts: Sequence[str], images: Sequence[Image.Image], batch_size: int) -> list[float]:
        """Cosine of each image with its prompt, in [-1, 1] and float32; batch_size images a forward pass."""
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
        """L2-normalised features [N, D] of prompts, float32; those of the last ``TEXTS_KEPT`` prompts are kept."""
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
    """A CLIPModel from a ``transformers`` folder or hub name, whole and from safetensors. Raises ValueError."""
    folder = str(model_folder(source, kind="CLIP model"))
    try:
        model, loading = CLIPModel.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"no CLIP model can be loaded from {source!r}: {reason}") from None
    if absent := sorted(loading["missing_keys"]):
        raise ValueError(f"the CLIP model {source!r} lacks weights, {absent[0]} among them")
    return model


def processor_of(source: str) -> Preprocess:
    """The preprocessing that a ``transformers`` folder or hub name states, with PIL. Raises ValueError."""
    from transformers import CLIPImageProcessorPil

    folder = str(model_folder(source, kind="CLIP model", files=TEXT_FILES))
    try:
        processor = CLIPImageProcessorPil.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"no preprocessing of images can be loaded from {source!r}: {reason}") from None

    def preprocess(images: Sequence[Image.Image]) -> Tensor:
        pixels: Tensor = processor(
            images=[as_rgb(image, drop_alpha=True) for image in images], return_tensors="pt"
        )["pixel_values"]
        return pixels

    return preprocess


def existing(path: str, setting: str) -> Path | None:
    """The path when it is there, None when it may be a hub name.

    Raises FileNotFoundError, naming the setting, for a missing path.
    """
    found = Path(path).expanduser()
    if found.exists():
        return found
    if path.count("/") == 1 and not path.startswith((".", "/", "~")) and not found.suffix:
        return None
    raise FileNotFoundError(f"{path}: no such file or folder; set {setting}")
