"""Human Preference Score v2 of an image for its prompt (arXiv:2306.09341), the paper's reward of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import torch

from pairuni.config import RewardSettings
from pairuni.devices import check_device, resolve_device
from pairuni.io.hub import hub_file
from pairuni.rewards.clip.original import clip_from_original, read_original
from pairuni.rewards.clip.preprocessing import tensor_first
from pairuni.rewards.clip.scorer import ClipScorer, CosineReward, load_transformers_clip
from pairuni.rewards.clip.text import load_tokenizer, open_clip_cleaning
from pairuni.rewards.pretrained import load_once, local_or_hub

HUB = "xswu/HPSv2"
FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}
"""The published checkpoints: the hub's repository, and the file of each version."""


class HPSv2Reward(CosineReward):
    """The raw cosine of HPSv2, in practice 0.1 to 0.4: compare within one prompt and one version only.

    checkpoint: the published file, a ``transformers`` CLIP folder, or a hub name. tokenizer: a source of CLIP's
    vocabulary, which the published file lacks. Equal checkpoints on a device are loaded once in a process.
    Raises FileNotFoundError for a missing checkpoint and ValueError for that of another model.
    """

    name = "hpsv2"

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
        source = locate(checkpoint, version)
        scorer = _load(source, tokenizer, check_device(resolve_device(device)), getattr(torch, dtype))
        super().__init__(scorer, batch_size)

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> HPSv2Reward:
        """The reward of ``settings.hpsv2``."""
        return cls(**settings.hpsv2.model_dump())


def locate(checkpoint: str, version: str) -> str:
    """The file, folder or hub name of a checkpoint; ``HUB`` stands for its file of ``version``.

    Raises FileNotFoundError for a missing checkpoint, and ValueError if the file name belongs to the other version.
    """
    source = local_or_hub(checkpoint, "reward.hpsv2.checkpoint")
    path = Path(source)
    if path.is_absolute():
        named = {file: known for known, file in FILES.items()}.get(path.name, version)
        if named != version:
            raise ValueError(f"{path} is HPSv{named}, but reward.hpsv2.version is {version!r}")
        return source
    if checkpoint != HUB:
        return checkpoint
    try:
        return str(hub_file(HUB, FILES[version], kind=f"HPSv{version} checkpoint"))
    except ValueError as error:
        raise FileNotFoundError(
            f"{error}; or get {FILES[version]} from huggingface.co/{HUB} and set reward.hpsv2.checkpoint to its path"
        ) from None


@load_once(maxsize=4)
def _load(source: str, tokenizer: str, device: torch.device, dtype: torch.dtype) -> ClipScorer:
    clean, vocabulary = open_clip_cleaning(), load_tokenizer(tokenizer)
    path = Path(source)
    if path.is_file():
        try:
            model = clip_from_original(read_original(path))
        except ValueError as error:
            message = str(error)
            raise ValueError(
                message if message.startswith(source) else f"{path} is not HPSv2: {message}"
            ) from None
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
