"""How a checkpoint samples unless a caller chooses otherwise: sizes, steps and guidance, stored in its config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pairuni.config import LuminaDimooSettings

SECTION = "sampling"
"""Key of config.json; the released model has no such key."""

_NUMBERS = ("guidance", "edit_guidance", "image_guidance")
_SIZES = ("image_size", "edit_size", "question_size")
_MOST, _LARGEST = 2**16, 2**12
"""The largest number in a config.json, and the largest side of an image in pixels."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Defaults are those of the original's scripts (Alpha-VLLM/Lumina-DiMOO, ``inference/``).

    image_size, edit_size, question_size: pixels of the side of a square with the area of generated images, of edited
    ones and their sources, and of images in questions. image_steps: steps of an image. answer_length, text_block,
    text_steps: tokens of an answer and of its blocks, and steps of a block. guidance, edit_guidance, image_guidance: 1
    more than the original's scales.
    """

    image_size: int = 1024
    edit_size: int = 512
    question_size: int = 1024
    image_steps: int = 64
    answer_length: int = 1024
    text_block: int = 256
    text_steps: int = 32
    guidance: float = 5.0
    edit_guidance: float = 3.5
    image_guidance: float = 5.0

    def with_settings(self, settings: LuminaDimooSettings) -> SamplingConfig:
        """With what the settings of a run change."""
        given = {
            "image_size": settings.image_size,
            "question_size": settings.image_size,
            "image_steps": settings.image_steps,
            "text_block": settings.text_block,
            "text_steps": settings.text_steps,
        }
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def check_sizes(self, patch: int, path: Path) -> None:
        """Raise ValueError naming the config.json if sides of images are not multiples of ``patch`` pixels."""
        for name in _SIZES:
            if fault := size_fault(getattr(self, name), patch):
                raise ValueError(f"{path} gives {SECTION}.{name} as {fault}.")

    def declared(self) -> dict[str, float]:
        """The section of config.json; empty for the defaults."""
        return {} if self == SamplingConfig() else asdict(self)


def size_fault(size: int, patch: int) -> str | None:
    """Why images cannot have a side of ``size`` pixels, or None; the end of a sentence with the name of the setting."""
    if size % patch or not patch <= size <= _LARGEST:
        return f"{size}, but this model's images have sides of multiples of {patch} pixels up to {_LARGEST}"
    return None


def sampling_config(config: Mapping[str, Any], path: Path) -> SamplingConfig:
    """That of the model that a config.json describes. Raises ValueError naming the file for a bad section."""
    said = config.get(SECTION, {})
    if not isinstance(said, dict):
        raise ValueError(f"{path} must give {SECTION} as names and numbers; restore the file.")
    known = {field.name for field in fields(SamplingConfig)}
    if unknown := sorted(set(said) - known):
        raise ValueError(f"{path} gives {SECTION} unknown names ({', '.join(unknown)}); restore the file.")
    for name, value in said.items():
        kinds = (int, float) if name in _NUMBERS else (int,)
        if not isinstance(value, kinds) or isinstance(value, bool) or not 1 <= value <= _MOST:
            kind = "a number" if name in _NUMBERS else "a whole number"
            raise ValueError(
                f"{path} gives {SECTION}.{name} as {str(value)[:40]}, but needs {kind} from 1 to {_MOST}; restore the "
                "file."
            )
    return SamplingConfig(**said)
