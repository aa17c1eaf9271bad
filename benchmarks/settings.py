"""Settings of the benchmarks; each class is the options of one command. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pairuni.config import Settings


class WorkloadSettings(Settings):
    """A model, prompts and rollouts: what rollout, update and step have in common."""

    model: Literal["tiny", "janus-pro-1b", "janus-pro-7b"] = "tiny"
    """The shipped model, or Janus-Pro's shapes with random weights."""
    prompts: int = Field(default=8, ge=1)
    """Prompts, or pairs."""
    rollouts: int = Field(default=8, ge=1)
    """Rollouts of each prompt, K."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """auto, float32 or bfloat16."""
    repeats: int = Field(default=5, ge=1)
    """Measured repeats, after one warm-up."""
    answer_tokens: int | None = Field(default=None, ge=1)
    """Maximum tokens of an answer; by default 16 for tiny, else 200."""
    guidance: float = Field(default=5.0, ge=1.0)
    """Classifier-free guidance."""
    branch: Literal["guided", "conditional"] = "guided"
    """Branch whose log-probs of image tokens are computed."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Text tokens of the model, instead of its own number."""

    @property
    def answer_length(self) -> int:
        return self.answer_tokens or (16 if self.model == "tiny" else 200)

    def to_dict(self) -> dict[str, Any]:
        """As a result stores them: the same keys for rollout, update and step."""
        given = self.model_dump() | {"answer_tokens": self.answer_length}
        return {"micro_batch_tokens": None, "skip": []} | given


class RolloutBenchSettings(WorkloadSettings):
    """``python -m benchmarks rollout``."""

    skip: list[str] = Field(default=[])
    """A contender to leave out; repeatable."""


class UpdateBenchSettings(RolloutBenchSettings):
    """``python -m benchmarks update``."""

    prompts: int = Field(default=2, ge=1)
    """Prompts, or pairs."""
    branch: Literal["guided", "conditional"] = "conditional"
    """Branch whose log-probs of image tokens are computed."""


class StepBenchSettings(WorkloadSettings):
    """``python -m benchmarks step``."""

    prompts: int = Field(default=2, ge=1)
    """Prompts, or pairs."""
    repeats: int = Field(default=3, ge=1)
    """Measured repeats, after one warm-up."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a forward pass."""
    lora: int | None = Field(default=None, ge=1)
    """Rank of adapters (LoRA) that train instead of the language model's weights."""


class CheckpointBenchSettings(StepBenchSettings):
    """``python -m benchmarks checkpoint``."""

    steps: int = Field(default=10, ge=1)
    """Steps of a measured window, which has at most one checkpoint."""
    every: int = Field(default=100, ge=1)
    """Steps between checkpoints for which the share of the time is computed."""
    folder: str | None = None
    """Folder for the checkpoints, on the disk to be measured; by default the system's folder of temporary files."""


class ProcessesBenchSettings(StepBenchSettings):
    """``python -m benchmarks processes``."""

    prompts: int = Field(default=16, ge=2)
    """Pairs of a step, over all processes."""
    rollouts: int = Field(default=8, ge=2)
    """Rollouts of each prompt, K."""
    device: Literal["cpu"] = "cpu"
    """cpu: each process has one core and one thread."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    steps: int = Field(default=6, ge=2)
    """Steps of a run, the first of which is not measured."""
    repeats: int = Field(default=5, ge=1)
    """Runs of each contender."""


class DiffusionBenchSettings(Settings):
    """``python -m benchmarks diffusion``."""

    model: Literal["small", "lumina-dimoo"] = "small"
    """Lumina-DiMOO in a small shape or in its published one, with random weights."""
    prompts: int = Field(default=8, ge=1)
    """Prompts."""
    rollouts: int = Field(default=2, ge=1)
    """Images of each prompt, K."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "auto"
    """auto, float32 or bfloat16."""
    repeats: int = Field(default=3, ge=1)
    """Measured repeats, after one warm-up."""
    image_size: int | None = Field(default=None, ge=16)
    """Pixels of the images' side; by default 128 for small, else 512."""
    image_steps: int = Field(default=35, ge=1)
    """Steps of an image."""
    guidance: float = Field(default=5.0, ge=1.0)
    """Classifier-free guidance."""
    branch: Literal["guided", "conditional"] = "guided"
    """Branch whose log-probs are computed."""
    micro_batch: int = Field(default=1, ge=1)
    """Images that are replayed in one pass."""
    skip: list[str] = Field(default=[])
    """A contender to leave out; repeatable."""

    def to_dict(self) -> dict[str, Any]:
        """As a result stores them."""
        return self.model_dump()


class AgreementBenchSettings(Settings):
    """``python -m benchmarks agreement``."""

    model: Literal["tiny"] = "tiny"
    """The shipped model."""
    prompts: int = Field(default=16, ge=1)
    """Pairs of a step."""
    rollouts: int = Field(default=8, ge=2)
    """Rollouts of each prompt, K."""
    steps: int = Field(default=100, ge=3)
    """Training steps, all of which are measured."""
    samples: int = Field(default=1500, ge=30)
    """Raw samples of the digits world of each task, of which the pairs are made."""
    device: Literal["cpu"] = "cpu"
    """cpu."""
    dtype: Literal["float32"] = "float32"
    """Type of the weights."""
    seed: int = Field(default=0, ge=0)
    """Seed of the world, of the rollouts and of the coordinates."""

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()


class SelectionSettings(Settings):
    """Sizes of the sets and of the selection: ``python -m benchmarks pairing`` and ``candidates``."""

    understanding: int = Field(default=4_700, ge=1)
    """Features of U."""
    generation: int = Field(default=6_000, ge=1)
    """Features of G."""
    dimensions: int = Field(default=512, ge=2)
    """Dimensions of a feature."""
    clusters: int | None = Field(default=None, ge=1)
    """K; by default one cluster for 21 features."""
    threshold: float = Field(default=0.6, ge=0.0, le=1.0)
    """Minimum cosine of a pair."""
    candidates: int = Field(default=32, ge=1)
    """Neighbours considered for each feature of G."""
    repeats: int = Field(default=3, ge=1)
    """Measured repeats."""
    seed: int = Field(default=0, ge=0)
    """Seed of the features and of the clustering."""

    @property
    def k(self) -> int:
        """Number of clusters. Raises ValueError when it exceeds the number of features."""
        rows = self.understanding + self.generation
        found = self.clusters or max(1, round(rows / 21))
        if found > rows:
            raise ValueError(f"--clusters {found} exceeds the number of features, {rows}")
        return found

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump() | {"clusters": self.k}


class CandidateSettings(SelectionSettings):
    """``python -m benchmarks candidates``."""

    understanding: int = Field(default=11_000, ge=1)
    """Features of U."""
    generation: int = Field(default=14_000, ge=1)
    """Features of G."""


class RewardBenchSettings(Settings):
    """``python -m benchmarks reward``."""

    model: Literal["small", "vit-h-14"] = "small"
    """vit-h-14 has the shape of HPSv2; random weights."""
    prompts: int = Field(default=8, ge=1)
    """Prompts."""
    rollouts: int = Field(default=8, ge=1)
    """Images of each prompt, K."""
    side: int = Field(default=384, ge=1)
    """Height and width of an image in pixels."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    repeats: int = Field(default=5, ge=1)
    """Measured repeats."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights and images."""

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()
