"""Rewards by CLIP models of ``transformers``: CLIP and PickScore (arXiv:2305.01569)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from PIL import Image

from pairuni.config import RewardSettings
from pairuni.devices import check_device, resolve_device
from pairuni.records import Annotation
from pairuni.rewards.clip.scorer import ClipScorer, CosineReward, load_preprocessing, load_transformers_clip
from pairuni.rewards.clip.text import load_tokenizer
from pairuni.rewards.pretrained import load_once, local_or_hub


class ClipReward(CosineReward):
    """Cosine of image and prompt under a CLIP model, with the preprocessing of its folder.

    model: a ``transformers`` folder or hub name. processor: the folder or hub name of tokenizer and preprocessing, by
    default the model's. Raises FileNotFoundError for a missing folder and ValueError if it has no complete CLIP.
    """

    name = "clip"

    def __init__(
        self,
        model: str = "openai/clip-vit-large-patch14",
        *,
        processor: str | None = None,
        device: str = "auto",
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_size: int = 64,
    ) -> None:
        setting = f"reward.{self.name}"
        source = local_or_hub(model, f"{setting}.model")
        texts = local_or_hub(processor or model, f"{setting}.processor")
        scorer = _load(source, texts, check_device(resolve_device(device)), getattr(torch, dtype))
        super().__init__(scorer, batch_size)

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> ClipReward:
        """The reward of ``settings.clip``."""
        return cls(**settings.clip.model_dump())


class PickScoreReward(ClipReward):
    """PickScore: the cosine times the model's learned scale, about 15 to 26 in practice."""

    name = "pickscore"
    range: ClassVar[tuple[float, float]] = (-100.0, 100.0)

    def __init__(
        self,
        model: str = "yuvalkirstain/PickScore_v1",
        *,
        processor: str | None = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        device: str = "auto",
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_size: int = 64,
    ) -> None:
        super().__init__(model, processor=processor, device=device, dtype=dtype, batch_size=batch_size)

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> PickScoreReward:
        """The reward of ``settings.pickscore``."""
        return cls(**settings.pickscore.model_dump())

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score per image. Raises ValueError if records and images differ in number."""
        return [self._scorer.logit_scale * cosine for cosine in super().__call__(records, samples)]


@load_once(maxsize=4)
def _load(model: str, processor: str, device: torch.device, dtype: torch.dtype) -> ClipScorer:
    return ClipScorer(
        load_transformers_clip(model),
        load_tokenizer(processor),
        load_preprocessing(processor),
        device=device,
        dtype=dtype,
    )
