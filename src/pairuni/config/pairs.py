"""Settings of a PairUG build (arXiv:2510.25682, section 2.1)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pairuni.config.base import Inputs, Settings, UserPath
from pairuni.config.endpoint import EndpointSettings

Matching = Literal["sequential", "greedy", "optimal"]
Clustering = Literal["torch", "faiss", "reference"]
Selection = Literal["medoids", "random"]


class CompletionSettings(EndpointSettings):
    """The vision-language model that completes samples if ``annotator`` is endpoint, batch or local."""

    model: str = ""
    """The model's name at the endpoint, or a transformers image-text-to-text model (paper: GPT-o3; for generation data
    its text also says GPT-4o)."""
    verifier: str | None = Field(default=None, min_length=1)
    """The model that verifies; by default the same, as the local annotator always has (paper: the model itself)."""
    concurrency: int = Field(default=8, ge=1)
    """Number of concurrent requests; for a local model, its batch size."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; by default the server's, and greedy for a local model (paper: not stated)."""
    options: int = Field(default=4, ge=2, le=8)
    """Number of options of a multiple-choice question (paper: not stated)."""
    max_calls: int | None = Field(default=None, ge=0)
    """Budget: total number of answers for this data set; the build pauses there and can be resumed."""
    max_cost: float | None = Field(default=None, ge=0)
    """Budget: total cost of this data set, in the currency of the prices."""
    price_input: float = Field(default=0.0, ge=0)
    """Price of a million input tokens."""
    price_output: float = Field(default=0.0, ge=0)
    """Price of a million output tokens."""


class RawDataSettings(Settings):
    """Raw data, and the folder of the build."""

    understanding: Inputs = Field(default=[])
    """Raw understanding data: files, folders or hub data sets of image, question, answer; needed unless ``completed``
    is set (paper: Orsta-47k without detection and grounding)."""
    generation: Inputs = Field(default=[])
    """Raw generation data: files, folders or hub data sets of image and prompt; needed unless ``completed`` is set
    (paper: BLIP3o-60k)."""
    out: UserPath
    """Folder for pairs.jsonl and its images."""
    completed: UserPath | None = None
    """Folder of an earlier build whose completed samples are paired again, with another threshold or encoder. No raw
    data is read and no annotator runs."""
    bad_records: Literal["stop", "drop"] = "stop"
    """Whether an invalid raw record stops the build before any request, or is dropped and listed in dropped.jsonl."""


class AnnotationSettings(Settings):
    """The missing half of each sample."""

    annotator: str = Field(default="endpoint", min_length=1)
    """What completes samples: scene, endpoint, batch, local, or "package.module:Class" (paper: GPT-o3)."""
    completion: CompletionSettings = CompletionSettings()
    max_tries: int = Field(default=3, ge=1)
    """Maximum completion attempts before a sample is dropped (paper: not stated)."""


class FeatureSettings(Settings):
    """Image features."""

    encoder: str = Field(default="microsoft/resnet-50", min_length=1)
    """Image encoder: a transformers vision model, policy:MODEL, or "package.module:name" (paper: ResNet-50)."""
    device: str = Field(default="auto", min_length=1)
    """Where a transformers encoder or a policy encodes images: auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type of a transformers encoder; auto is bfloat16 on a GPU, else float32."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass of the encoder."""


class SelectionSettings(Settings):
    """Clustering and matching (Algorithm 1)."""

    clusters: int | None = Field(default=None, ge=1)
    """K of k-means; by default one cluster per 21 samples (paper: not stated; its counts suggest about 5,000)."""
    clustering: Clustering = "torch"
    """Implementation of k-means: torch, faiss, or scikit-learn's MiniBatchKMeans (paper: reference)."""
    selection: Selection = "medoids"
    """Aligned pairs: medoids of the clusters, or as many random samples (paper: medoids; random is its ablation)."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """delta, the minimum cosine similarity of a retrieved pair (paper: 0.6)."""
    max_matches: int = Field(default=1, ge=1)
    """n, maximum number of understanding samples per generation sample (paper: not stated; 1 fits its counts)."""
    matching: Matching = "optimal"
    """Maximum total similarity (optimal), best pairs first (greedy, faster), or file order (paper: sequential)."""
    candidates: int = Field(default=32, ge=1)
    """Nearest understanding samples that greedy and optimal consider at a time for each generation sample."""
    compare_matchings: bool = False
    """Whether to run every matching once and write its pairs, total similarity and use of the data to stats.json."""
    seed: int = Field(default=0, ge=0)
    """Seed of the clustering, of a random selection and of the letters of correct options (paper: not stated)."""


class EngineSettings(Settings):
    """Processes and machines."""

    engine: Literal["local", "ray"] = "local"
    """Where completion, features and the candidate search run: in this process, or on the workers of a Ray cluster."""
    workers: int = Field(default=2, ge=1)
    """Number of workers of the engine ray."""
    worker_gpus: float = Field(default=0.0, ge=0)
    """GPUs per worker of the engine ray."""


class PairsSettings(EngineSettings, SelectionSettings, FeatureSettings, AnnotationSettings, RawDataSettings):
    """All settings of a PairUG build (paper section 2.1, Algorithm 1); fields are those of the last base first."""

    @model_validator(mode="after")
    def _check_inputs(self) -> Self:
        if self.completed is None:
            for name in ("understanding", "generation"):
                if not getattr(self, name):
                    if name in self.model_fields_set:
                        raise ValueError(f"{name} is [], but must not be empty")
                    raise ValueError(f"{name} is required; set it in the recipe or with --{name} VALUE")
        return self
