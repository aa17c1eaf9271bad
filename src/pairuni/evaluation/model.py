"""The evaluated model: which one, how it runs, and what identifies it in a run's folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pairuni.config.evaluation import BenchmarkSettings, DigitsSettings
from pairuni.devices import resolve_device, resolve_dtype
from pairuni.policies.policy import UnifiedPolicy
from pairuni.runs.models import load_model, resolve_model, shows_several
from pairuni.training.digests import digest_of_tensors

_SAMPLES, _SAMPLE_BYTES = 64, 4096
_DIGITS = 16
"""Hexadecimal digits of a digest."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and its sampling settings.

    batch_size: replies or images generated at once; the noise of an image depends on it. guidance, image_guidance:
    None is the policy's own. loaded: the policy itself, instead of one loaded by ``name``.
    """

    name: str
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 64
    seed: int = 0
    temperature: float = 1.0
    guidance: float | None = None
    image_guidance: float | None = None
    loaded: UnifiedPolicy | None = None

    @classmethod
    def of(cls, settings: BenchmarkSettings | DigitsSettings, **fixed: Any) -> Self:
        """The model of an evaluation's settings. fixed: values that the benchmark fixes."""
        fields = {"batch_size", "seed", "temperature", "guidance", "image_guidance"} & set(
            type(settings).model_fields
        )
        return cls(
            name=settings.model,
            device=settings.device,
            dtype=settings.dtype,
            **{field: getattr(settings, field) for field in fields},
            **fixed,
        )

    @cached_property
    def policy(self) -> UnifiedPolicy:
        """The policy, by default loaded on first use."""
        return self.loaded or load_model(self.name, device=self.device, dtype=self.dtype)

    @property
    def shows_several(self) -> bool:
        """Whether it can be shown several images a question; weights are not read for this."""
        policy = self.loaded or self.__dict__.get("policy")
        return shows_several(self.name) if policy is None else bool(policy.several_images)

    def described(self) -> dict[str, Any]:
        """Everything that replies and images depend on. ``weights`` changes with the checkpoint's files."""
        if self.loaded is not None:
            module = self.loaded.inference_module
            weights = digest_of_tensors(module.state_dict())[:_DIGITS]
            device, dtype = self.loaded.device, next(module.parameters()).dtype
        else:
            weights = _weights_digest(resolve_model(self.name))
            device = resolve_device(self.device)
            dtype = resolve_dtype(self.dtype, device)
        return {
            "model": self.name,
            "weights": weights,
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "batch size": self.batch_size,
        }


def _weights_digest(folder: Path) -> str:
    """A digest of the names, the sizes and ``_SAMPLES`` evenly spaced samples of the weight files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(size * sample // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:_DIGITS]
