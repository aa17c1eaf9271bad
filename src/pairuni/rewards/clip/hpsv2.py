"""Human Preference Score v2 of an image for its prompt (arXiv:2306.09341), the paper's reward of images."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from pairuni.config import RewardSettings
from pairuni.devices import check_device, resolve_device
from pairuni.io.hub import hub_file
from pairuni.records import Annotation
from pairuni.rewards.clip.original import clip_from_original, read_original
from pairuni.rewards.clip.preprocessing import tensor_first
from pairuni.rewards.clip.scorer import ClipScorer, existing, load_transformers_clip
from pairuni.rewards.clip.text import load_tokenizer, open_clip_cleaning

HUB = "xswu/HPSv2"
FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}
"""The original's checkpoints: where they are published, and the file of each version."""

_loading = threading.Lock()


class HPSv2Reward:
    """The raw cosine of HPSv2, in practice 0.1 to 0.4: compare within one prompt and one version only.

    checkpoint: the original's file, a ``transformers`` CLIP folder, or a hub name. tokenizer: where CLIP's
    vocabulary is; the original's file has none. Equal checkpoints on a device are loaded once in a process.
    Raises FileNotFoundError when the checkpoint is missing and ValueError when it is another model's.
    """

    name = "hpsv2"
    range = (-1.0, 1.0)
    needs = ("prompt",)

    def __init__(
        self,
        checkpoint: str = HUB,
        *,
        version: Literal["2.0", "2.1"] = "2.1",
        tokenizer: str = "openai/clip-vit-large-patch14",
        device: str = "auto",
        dtype: Literal["float32", "bfloat16"] = "float32",
        batch_size: int = 64,
    ) -> None:
        self._batch_size = batch_size
        source = locate(checkpoint, version)
        with _loading:
            self._scorer = _load(
                source, tokenizer, check_device(resolve_device(device)), getattr(torch, dtype)
            )
        self.models = (self._scorer.model,)

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> HPSv2Reward:
        """The reward of ``settings.hpsv2``."""
        return cls(**settings.hpsv2.model_dump())

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score an image. Raises ValueError when records and images differ in number."""
        if len(records) != len(samples):
            raise ValueError(f"{len(records)} records but {len(samples)} images to score")
        prompts = [record.prompt for record in records]
        return self._scorer.cosines(prompts, samples, self._batch_size)


def locate(checkpoint: str, version: str) -> str:
    """The file or folder of a checkpoint; the original's hub name stands for its file of ``version``.

    Raises FileNotFoundError when there is none, and ValueError when the file's name is the other version's.
    """
    path = existing(checkpoint, "reward.hpsv2.checkpoint")
    if path is not None:
        named = {file: known for known, file in FILES.items()}.get(path.name, version)
        if named != version:
            raise ValueError(f"{path} is HPSv{named}, but reward.hpsv2.version is {version!r}")
        return str(path.absolute())
    if checkpoint != HUB:
        return checkpoint
    try:
        return str(hub_file(HUB, FILES[version], kind=f"HPSv{version} checkpoint"))
    except ValueError as error:
        raise FileNotFoundError(
            f"{error}; or get {FILES[version]} from huggingface.co/{HUB} and set reward.hpsv2.checkpoint to its path"
        ) from None


@lru_cache(maxsize=4)
def _load(source: str, tokenizer: str, device: torch.device, dtype: torch.dtype) -> ClipScorer:
    clean, vocabulary = open_clip_cleaning(), load_tokenizer(tokenizer)
    path = Path(source)
    if path.is_file():
        try:
            model = clip_from_original(read_original(path))
        except ValueError as error:
            said = str(error)
            raise ValueError(said if said.startswith(source) else f"{path} is no HPSv2: {said}") from None
    else:
        model = load_transformers_clip(source)
    return ClipScorer(
        model,
        vocabulary,
        partial(tensor_first, size=model.config.vision_config.image_size, device=device),
        device=device,
        dtype=dtype,
        clean=clean,
    )
