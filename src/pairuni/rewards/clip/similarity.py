"""Rewards of images that are CLIP models of ``transformers``: plain CLIP and PickScore (arXiv:2305.01569)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from PIL import Image

from pairuni.config import RewardSettings
from pairuni.devices import check_device, resolve_device
from pairuni.records import Annotation
from pairuni.rewards.clip.scorer import (
    ClipScorer,
    existing,
    load_transformers_clip,
    processor_of,
)
from pairuni.rewards.clip.text import load_tokenizer

_loading = threading.Lock()


class ClipReward:
    """Cosine of image and prompt under a CLIP model, with the preprocessing that its folder states.

    model: a ``transformers`` folder or hub name. processor: where tokenizer and preprocessing are, by default with
    the model. Raises FileNotFoundError for a missing folder and ValueError when it holds no whole CLIP.
    """

    name = "clip"
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    needs = ("prompt",)

    def __init__(
        self,
        model: str = "openai/clip-vit-large-patch14",
        *,
        processor: str | None = None,
        device: str = "auto",
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_size: int = 64,
    ) -> None:
        self._batch_size = batch_size
        sources = (self._source(model, "model"), self._source(processor or model, "processor"))
        with _loading:
            self._scorer = _load(*sources, check_device(resolve_device(device)), getattr(torch, dtype))
        self.models = (self._scorer.model,)

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> ClipReward:
        """The reward of ``settings.clip``."""
        return cls(**settings.clip.model_dump())

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score an image. Raises ValueError when records and images differ in number."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} images to score")
        return self._scorer.cosines([record.prompt for record in records], samples, self._batch_size)

    def _source(self, name: str, setting: str) -> str:
        path = existing(name, f"reward.{self.name}.{setting}")
        return name if path is None else str(path.absolute())


class PickScoreReward(ClipReward):
    """PickScore: the cosine times the model's learned scale, about 15 to 26 in practice."""

    name = "pickscore"
    range = (-100.0, 100.0)

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
        """One score an image. Raises ValueError when records and images differ in number."""
        return [self._scorer.logit_scale * cosine for cosine in super().__call__(records, samples)]


@lru_cache(maxsize=4)
def _load(model: str, processor: str, device: torch.device, dtype: torch.dtype) -> ClipScorer:
    return ClipScorer(
        load_transformers_clip(model),
        load_tokenizer(processor),
        processor_of(processor),
        device=device,
        dtype=dtype,
    )
