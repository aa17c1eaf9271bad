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
    """The original file (.pt, .safetensors), a transformers CLIP folder, or a hub name."""
    version: Literal["2.0", "2.1"] = "2.1"
    """Version of the checkpoint; scores of the two are not comparable (paper: not stated)."""
    tokenizer: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """CLIP's tokenizer: a transformers folder, a hub name or open_clip's bpe_simple_vocab_16e6.txt.gz."""
    device: str = Field(default="auto", min_length=1)
    """auto, cpu, cuda or cuda:N; auto has the same meaning as for the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and features; the cosine is always computed in float32."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass."""


class ClipSettings(Settings):
    """The reward clip: cosine of image and prompt under a CLIP model."""

    model: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """A transformers CLIP folder or hub name."""
    processor: str | None = Field(default=None, min_length=1)
    """Folder or hub name of tokenizer and preprocessing; by default the model's."""
    device: str = Field(default="auto", min_length=1)
    """auto, cpu, cuda or cuda:N; auto has the same meaning as for the policy."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and features; the cosine is always computed in float32."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass."""


class PickScoreSettings(ClipSettings):
    """The reward pickscore (arXiv:2305.01569): a CLIP model's cosine times its learned scale."""

    model: str = Field(default="yuvalkirstain/PickScore_v1", min_length=1)
    """A transformers CLIP folder or hub name."""
    processor: str | None = Field(default="laion/CLIP-ViT-H-14-laion2B-s32B-b79K", min_length=1)
    """Folder or hub name of tokenizer and preprocessing; by default the model's."""


class JudgeSettings(EndpointSettings):
    """The reward judge: a vision-language model that scores images by a rubric."""

    rubric: UserPath | None = None
    """Text file with the judging instructions and fields of the record such as {prompt}; by default the shipped one."""
    lowest: float = 0.0
    """The minimum score; {lowest} in the rubric."""
    highest: float = 10.0
    """The maximum score; {highest} in the rubric."""
    max_retries: int = Field(default=3, ge=0)
    """Maximum number of retries after a lost request, a 429 or a 5xx."""


class RemoteSettings(Settings):
    """The reward remote: a server run by pairuni serve-reward, or one with the same protocol."""

    url: str = ""
    """URL of the server, such as http://gpu-2:8100."""
    token_variable: str = Field(default="PAIRUNI_REWARD_TOKEN", min_length=1)
    """Environment variable that holds the server's token, if it requires one."""
    batch_size: int = Field(default=32, ge=1)
    """Samples per request."""
    concurrency: int = Field(default=2, ge=1)
    """Number of concurrent requests; with 2, one is scored while the next is sent."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without data after which a request is considered lost."""
    max_retries: int = Field(default=3, ge=0)
    """Maximum number of retries after a lost request or a 5xx."""


class CompositionSettings(Settings):
    """The reward composition: objects, counts, colours and positions, by a detector and GenEval's rules."""

    detector: str = Field(default="facebook/mask2former-swin-small-coco-instance", min_length=1)
    """A transformers folder or hub name (Mask2Former, DETR or a similar model), digits, or package.module:Class."""
    clip: str = Field(default="openai/clip-vit-large-patch14", min_length=1)
    """CLIP model that classifies colours, a transformers folder or hub name; unused if the detector does."""
    mode: Literal["graded", "strict"] = "graded"
    """Share of the required facts that hold (graded), or GenEval's decision, 0 or 1 (strict)."""
    threshold: float = Field(default=0.3, ge=0, lt=1)
    """Minimum confidence of an object (GenEval: 0.3)."""
    counting_threshold: float = Field(default=0.9, ge=0, lt=1)
    """Minimum confidence for records with the tag counting (GenEval: 0.9)."""
    device: str = Field(default="auto", min_length=1)
    """Device of detector and CLIP: auto, cpu, cuda or cuda:N; auto has the same meaning as for the policy."""
    batch_size: int = Field(default=8, ge=1)
    """Images per forward pass of the detector."""


class RewardSettings(Settings):
    """Rewards and their settings. A reward is a short name, a custom "package.module:Class", or a weighted sum."""

    understanding: str = Field(default="accuracy", min_length=1)
    """Reward of answers, such as "accuracy + 0.1 * format" (paper: 1 if the answer is correct, else 0)."""
    generation: str = Field(default="hpsv2", min_length=1)
    """Reward of images, such as "hpsv2 + 0.5 * clip" (paper: HPSv2)."""
    normalise: RewardNormalisation = "sum"
    """Advantages of a weighted sum: normalise the sum within each group (sum), or each term, then average (each)."""
    timeout: float | None = Field(default=600.0, gt=0)
    """Maximum seconds of a reward for a batch of rollouts, after which the run stops; none disables the limit."""
    hpsv2: HPSv2Settings = HPSv2Settings()
    """Settings of the reward hpsv2."""
    clip: ClipSettings = ClipSettings()
    """Settings of the reward clip."""
    pickscore: PickScoreSettings = PickScoreSettings()
    """Settings of the reward pickscore."""
    judge: JudgeSettings = JudgeSettings()
    """Settings of the reward judge."""
    remote: RemoteSettings = RemoteSettings()
    """Settings of the reward remote."""
    composition: CompositionSettings = CompositionSettings()
    """Settings of the reward composition."""
