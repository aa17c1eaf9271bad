"""Settings of a PairUG build (arXiv:2510.25682, section 2.1)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pairuni.config.base import Inputs, Settings, UserPath
from pairuni.config.endpoint import EndpointSettings

Matching = Literal["sequential", "greedy", "optimal"]
Clustering = Literal["torch", "faiss", "reference"]


class CompletionSettings(EndpointSettings):
    """The vision-language model that completes samples, when ``annotator`` is endpoint, batch or local."""

    model: str = ""
    """The model's name at the endpoint, or a transformers image-text-to-text model (paper: GPT-o3)."""
    verifier: str | None = Field(default=None, min_length=1)
    """The model of the verification call; none takes the same one. The local annotator has one model."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight at once; prompts in one forward pass of a local model."""
    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; none is the server's own, and greedy for a local model (paper: not stated)."""
    options: int = Field(default=4, ge=2, le=8)
    """Options of a written question (paper: multiple choice, the number not stated)."""
    max_calls: int | None = Field(default=None, ge=0)
    """Budget: answers that this data set may take in all; the build stops there and can go on."""
    max_cost: float | None = Field(default=None, ge=0)
    """Budget: what this data set may cost in all, in the currency of the prices."""
    price_input: float = Field(default=0.0, ge=0)
    """Price of a million tokens sent."""
    price_output: float = Field(default=0.0, ge=0)
    """Price of a million tokens received."""


class PairsSettings(Settings):
    """Everything that decides a PairUG build (paper section 2.1, Algorithm 1)."""

    understanding: Inputs = Field(min_length=1)
    """Raw understanding data: files, folders or hub data sets of image, question, answer."""
    generation: Inputs = Field(min_length=1)
    """Raw generation data: files, folders or hub data sets of image and prompt."""
    out: UserPath
    """Folder that receives pairs.jsonl and its images."""
    bad_records: Literal["stop", "drop"] = "stop"
    """A raw record that cannot be used ends the build before anything is paid, or goes into dropped.jsonl."""
    annotator: str = Field(default="endpoint", min_length=1)
    """What completes samples: scene, endpoint, batch, local, or "package.module:Class" (paper: GPT-o3)."""
    completion: CompletionSettings = CompletionSettings()
    encoder: str = Field(default="microsoft/resnet-50", min_length=1)
    """Image encoder: a transformers vision model, or policy:MODEL for a policy's own tower (paper: ResNet-50)."""
    device: str = Field(default="auto", min_length=1)
    """Where images are encoded: auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type of a transformers encoder; auto is bfloat16 on a GPU, else float32."""
    clusters: int | None = Field(default=None, ge=1)
    """K of k-means; none takes one for 21 samples, as the paper's counts suggest (paper: not stated)."""
    clustering: Clustering = "torch"
    """k-means on torch or faiss, or the paper's scikit-learn MiniBatchKMeans (reference)."""
    threshold: float = Field(default=0.6, ge=0, le=1)
    """delta, the least cosine of a retrieved pair (paper: 0.6)."""
    max_matches: int = Field(default=1, ge=1)
    """n, understanding samples that one generation sample may take (paper: not stated; 1 fits its counts)."""
    matching: Matching = "optimal"
    """The largest total similarity, best pairs first (greedy: faster), or in file order (paper: sequential)."""
    candidates: int = Field(default=32, ge=1)
    """Nearest understanding samples that greedy and optimal weigh for each generation sample at a time."""
    engine: Literal["local", "ray"] = "local"
    """This process, or the workers of a Ray cluster for completion, features and the search for candidates."""
    workers: int = Field(default=2, ge=1)
    """Workers of the engine ray."""
    worker_gpus: float = Field(default=0.0, ge=0)
    """GPUs of each worker of the engine ray."""
    compare_matchings: bool = False
    """Make every matching once and write pairs, total similarity and use of the data to stats.json."""
    max_tries: int = Field(default=3, ge=1)
    """Completions tried before a sample is dropped (paper: not stated)."""
    batch_size: int = Field(default=64, ge=1)
    """Images per forward pass of the encoder."""
    seed: int = Field(default=0, ge=0)
    """Seeds the clustering and the letters of right options."""
