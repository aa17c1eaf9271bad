"""Settings of `pairuni eval`, a class for each benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pairuni.config.base import Settings, UserPath
from pairuni.config.models import ModelSettings
from pairuni.config.rewards import CompositionSettings

_COMPOSITION = CompositionSettings()


class AmountSettings(ModelSettings):
    """How much runs, and how much of it at once."""

    limit: int | None = Field(default=None, ge=1)
    """Number of items to run, sampled evenly from all parts; the result is marked as partial."""
    batch_size: int = Field(default=64, ge=1)
    """Replies or images generated at once."""


class BenchmarkSettings(AmountSettings):
    """All public benchmarks."""

    data: UserPath
    """The benchmark's official files: a folder, or the file itself where there is one."""
    out: UserPath
    """Folder of the run; running the same command again resumes it."""


class YesNoSettings(BenchmarkSettings):
    """POPE and MME."""

    images: UserPath | None = None
    """Folder of the benchmark's images; by default ``data``."""
    max_new_tokens: int = Field(default=32, ge=1)
    """Maximum reply length in tokens."""


class MMStarSettings(BenchmarkSettings):
    """MMStar."""

    max_new_tokens: int = Field(default=32, ge=1)
    """Maximum reply length in tokens."""


class MMMUSettings(BenchmarkSettings):
    """MMMU validation."""

    max_new_tokens: int = Field(default=512, ge=1)
    """Maximum reply length in tokens."""


class TextToImageSettings(BenchmarkSettings):
    """All benchmarks of image generation."""

    seed: int = Field(default=0, ge=0)
    """Seed of image sampling."""
    guidance: float | None = Field(default=None, ge=1)
    """Classifier-free guidance weight; 1 turns guidance off. By default the checkpoint's own, else 5."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature; 0 is greedy."""


class GenEvalSettings(TextToImageSettings):
    """GenEval."""

    samples: int = Field(default=4, ge=1)
    """Images per prompt."""
    detector: str | None = Field(default=None, min_length=1)
    """Detector that judges the images, as for eval judge; by default, images are only generated."""
    clip: str = Field(default=_COMPOSITION.clip, min_length=1)
    """CLIP model that classifies colours: a folder or hub name."""


class WISESettings(TextToImageSettings):
    """WISE. A judge behind an OpenAI-compatible endpoint may score the images."""

    protocol: Literal["legacy", "verified"] = "legacy"
    """The protocol of WISE's paper, or the newer one of its authors."""
    judge: str | None = Field(default=None, min_length=1)
    """The judge's model name at the endpoint, such as gpt-4o; by default, images are only generated."""
    base_url: str | None = Field(default=None, min_length=1)
    """The endpoint, such as http://localhost:8000/v1; by default OpenAI's."""
    judge_prompt: UserPath | None = None
    """WISE's gpt_eval.py or vllm_eval.py, or a text file; by default this package's own prompt."""
    judge_temperature: float = Field(default=0.0, ge=0)
    """The judge's sampling temperature; the protocol of the result names a value other than the official 0."""
    concurrency: int = Field(default=8, ge=1)
    """Number of concurrent requests to the judge."""


class ImgEditSettings(TextToImageSettings):
    """ImgEdit-Bench Basic. A judge behind an OpenAI-compatible endpoint may score the images."""

    images: UserPath | None = None
    """Folder of the source images; by default ``data``."""
    guidance: float | None = Field(default=None, ge=1)
    """Guidance against the prompt without the instruction; 1 turns it off. By default the model's own."""
    image_guidance: float | None = Field(default=None, ge=1)
    """Guidance against the prompt without the image; 1 turns it off. By default the model's own."""
    judge: str | None = Field(default=None, min_length=1)
    """The judge's model name at the endpoint, such as gpt-4o; by default, images are only edited."""
    base_url: str | None = Field(default=None, min_length=1)
    """The endpoint, such as http://localhost:8000/v1; by default OpenAI's."""
    judge_prompts: UserPath | None = None
    """ImgEdit's prompts.json; needed with ``judge``."""
    judge_temperature: float | None = Field(default=None, ge=0)
    """The judge's sampling temperature; by default the server's, as in the official script."""
    concurrency: int = Field(default=8, ge=1)
    """Number of concurrent requests to the judge."""


class DigitsSettings(ModelSettings):
    """The held-out scenes of the digits world."""

    items: int = Field(default=510, ge=1)
    """Held-out items of each task."""
    guidance: float | None = Field(default=None, ge=1)
    """Classifier-free guidance weight; 1 turns guidance off. By default the checkpoint's own, else 5."""
    seed: int = Field(default=0, ge=0)
    """Seed of the items and of image sampling."""
    out: UserPath | None = None
    """Folder for the scored items; running the same command again resumes it."""


class DigitsEditsSettings(DigitsSettings):
    """Held-out edits of the digits world."""

    items: int = Field(default=512, ge=1)
    """Number of held-out edits, of four kinds in turn."""
    guidance: float | None = Field(default=None, ge=1)
    """Guidance against the prompt without the instruction; 1 turns it off. By default the model's own."""
    image_guidance: float | None = Field(default=None, ge=1)
    """Guidance against the prompt without the image; 1 turns it off. By default the model's own."""


class SuiteSettings(AmountSettings):
    """Several public benchmarks of one model. A section has the settings of its benchmark's own command."""

    out: UserPath
    """Folder of the runs, in a folder for each benchmark; running the same command again resumes them."""
    tasks: list[str] = Field(default=[])
    """Benchmarks to run, in this order; by default all that have a section."""
    mmmu: MMMUSettings | None = None
    """MMMU validation."""
    mmstar: MMStarSettings | None = None
    """MMStar."""
    mme: YesNoSettings | None = None
    """MME."""
    pope: YesNoSettings | None = None
    """POPE."""
    geneval: GenEvalSettings | None = None
    """GenEval."""
    wise: WISESettings | None = None
    """WISE."""
    imgedit: ImgEditSettings | None = None
    """ImgEdit-Bench Basic."""

    @property
    def chosen(self) -> dict[str, BenchmarkSettings]:
        """The settings of the benchmarks to run, in order. Raises ValueError for one that has no section."""
        sections = {name: getattr(self, name) for name in SUITE if getattr(self, name) is not None}
        if not sections:
            raise ValueError(f"no benchmark has a section; known: {', '.join(SUITE)}")
        if unknown := [name for name in self.tasks if name not in sections]:
            raise ValueError(f"tasks names {unknown[0]!r}, but the sections are {', '.join(sections)}")
        return {name: sections[name] for name in self.tasks or sections}

    @model_validator(mode="before")
    @classmethod
    def _share(cls, values: Any) -> Any:
        """Each section with what all of them share, and a folder of its own."""
        if not isinstance(values, dict):
            return values
        shared = {name: values[name] for name in AmountSettings.model_fields if name in values}
        shared.setdefault("model", "model")  # its absence is reported once, for the suite
        return {
            key: {**shared, "out": f"{values.get('out', '')}/{key}", **value}
            if key in SUITE and isinstance(value, dict)
            else value
            for key, value in values.items()
        }


SUITE = ("mmmu", "mmstar", "mme", "pope", "geneval", "wise", "imgedit")
"""Benchmarks of a suite, in the order in which they run."""


class GenEvalJudgingSettings(Settings):
    """A detector that judges a folder of GenEval's images."""

    task: Literal["geneval"]
    """geneval."""
    images: UserPath
    """Folder of images in the official layout: 00000/samples/0000.png."""
    out: UserPath = Path("results.jsonl")
    """The official results file to write; running the same command again resumes."""
    detector: str = Field(default=_COMPOSITION.detector, min_length=1)
    """A folder or hub name (Mask2Former, DETR or a similar model), digits, or module:Class."""
    clip: str = Field(default=_COMPOSITION.clip, min_length=1)
    """CLIP model that classifies colours: a folder or hub name."""
    batch_size: int = Field(default=_COMPOSITION.batch_size, ge=1)
    """Images per forward pass of the detector."""
    device: str = Field(default="auto", min_length=1)
    """auto, cpu, cuda or cuda:N."""


class ScoreSettings(Settings):
    """Official files of a benchmark, to be scored by its official rules."""

    task: str
    """mme, pope, mmmu, mmstar, geneval, wise or imgedit."""
    paths: list[UserPath]
    """The benchmark's official files, or their folder."""
    data: UserPath | None = None
    """POPE's folder of questions; ImgEdit's basic_edit.json."""
    judge: str | None = None
    """What judged: a model (WISE, ImgEdit) or a detector (GenEval)."""
    protocol: str | None = None
    """WISE: legacy or verified."""
    model: str | None = None
    """The model that made the files, for the record."""
    out: UserPath | None = None
    """Folder for the results as JSON."""
