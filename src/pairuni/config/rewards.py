"""Settings of rewards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pairuni.config.base import Settings, UserPath
from pairuni.config.endpoint import EndpointSettings

RewardNormalisation = Literal["sum", "each"]


class HPSv2Settings(Settings):
    """The reward hpsv2: Human Preference Score v2 (arXiv:2306.09341)."""

    checkpoint: str = Field(default="xswu/HPSv2", min_length=1)
    """The original's file (.pt, .safetensors), a transformers CLIP folder, or a hub name."""
    version: Literal["2.0", "2.1"] = "2.1"
    """Which version the checkpoint is; scores of the two do not compare (paper: not stated)."""
    tokenizer: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """CLIP's vocabulary: a transformers folder, a hub name or open_clip's bpe_simple_vocab_16e6.txt.gz."""
    device: str = Field(default="auto", min_length=1)
    """Where it runs: auto, cpu, cuda or cuda:N; auto is what auto means for the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and features; the cosine is in float32 either way."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass."""


class ClipSettings(Settings):
    """The reward clip: cosine under a CLIP model."""

    model: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """A transformers CLIP folder or hub name."""
    processor: str | None = Field(default=None, min_length=1)
    """Folder or hub name of tokenizer and preprocessing; none is the model's own."""
    device: str = Field(default="auto", min_length=1)
    """Where it runs: auto, cpu, cuda or cuda:N; auto is what auto means for the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and features; the cosine is in float32 either way."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass."""


class PickScoreSettings(ClipSettings):
    """The reward pickscore (arXiv:2305.01569): a CLIP model's cosine times its learned scale."""

    model: str = Field(default="yuvalkirstain/PickScore_v1", min_length=1)
    """A transformers CLIP folder or hub name."""
    processor: str | None = Field(default="laion/CLIP-ViT-H-14-laion2B-s32B-b79K", min_length=1)
    """Folder or hub name of tokenizer and preprocessing; none is the model's own."""


class JudgeSettings(EndpointSettings):
    """The reward judge: a vision-language model that marks images by a rubric."""

    rubric: UserPath | None = None
    """A text file that says what to judge, with fields of the record such as {prompt}; none is the shipped one."""
    lowest: float = 0.0
    """The least score; {lowest} in the rubric."""
    highest: float = 10.0
    """The largest score; {highest} in the rubric."""
    max_retries: int = Field(default=3, ge=0)
    """Times that a request is sent again after a lost one, a 429 or a 5xx."""


class RemoteSettings(Settings):
    """The reward remote: a server that pairuni serve-reward, or anything that speaks as it does, runs."""

    url: str = ""
    """Where it is, such as http://gpu-2:8100."""
    token_variable: str = Field(default="PAIRUNI_REWARD_TOKEN", min_length=1)
    """Name of the environment variable that holds the server's token, if it wants one."""
    batch_size: int = Field(default=32, ge=1)
    """Samples a request."""
    concurrency: int = Field(default=2, ge=1)
    """Requests in flight at once: one is scored while the next is packed and sent."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without a byte after which a request counts as lost."""
    max_retries: int = Field(default=3, ge=0)
    """Times that a request is sent again after a lost one or a 5xx."""


class CompositionSettings(Settings):
    """The reward composition: objects, numbers, colours and positions, by a detector and GenEval's rules."""

    detector: str = Field(default="facebook/mask2former-swin-small-coco-instance", min_length=1)
    """A transformers folder or hub name (Mask2Former, DETR and its kin), digits, or package.module:Class."""
    clip: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """The CLIP that names colours, a transformers folder or hub name; unused where the detector names them."""
    mode: Literal["graded", "strict"] = "graded"
    """Share of the asked facts that hold, or GenEval's decision, 0 or 1."""
    threshold: float = Field(default=0.3, ge=0, lt=1)
    """Confidence that an object must exceed (GenEval: 0.3)."""
    counting_threshold: float = Field(default=0.9, ge=0, lt=1)
    """The same for records with the tag counting (GenEval: 0.9)."""
    device: str = Field(default="auto", min_length=1)
    """Where both run: auto, cpu, cuda or cuda:N; auto is what auto means for the policy."""
    batch_size: int = Field(default=8, ge=1)
    """Images per forward pass of the detector."""


class RewardSettings(Settings):
    """Rewards, and what the named ones need: a short name, "package.module:Class" of your own, or a weighted sum."""

    understanding: str = Field(default="accuracy", min_length=1)
    """Reward of answers, such as "accuracy + 0.1 * format" (paper: 1 if the answer equals the truth, else 0)."""
    generation: str = Field(default="hpsv2", min_length=1)
    """Reward of images, such as "hpsv2 + 0.5 * clip" (paper: HPSv2)."""
    normalise: RewardNormalisation = "sum"
    """Of a sum: add up, then normalise within each group (sum), or normalise each, then average by weight (each)."""
    timeout: float | None = Field(default=600.0, gt=0)
    """Seconds that a reward may take for a batch of rollouts before the run stops; none waits for ever."""
    hpsv2: HPSv2Settings = HPSv2Settings()
    """What the reward hpsv2 needs."""
    clip: ClipSettings = ClipSettings()
    """What the reward clip needs."""
    pickscore: PickScoreSettings = PickScoreSettings()
    """What the reward pickscore needs."""
    judge: JudgeSettings = JudgeSettings()
    """What the reward judge needs."""
    remote: RemoteSettings = RemoteSettings()
    """What the reward remote needs."""
    composition: CompositionSettings = CompositionSettings()
    """What the reward composition needs."""
