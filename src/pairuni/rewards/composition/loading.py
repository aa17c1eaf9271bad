"""Detectors and namers of colours by name; a model is loaded once in a process."""

from __future__ import annotations

import threading
from collections.abc import Collection
from functools import lru_cache, partial
from typing import Any

import torch

from pairuni.devices import check_device, resolve_device
from pairuni.io.hub import model_folder
from pairuni.rewards.clip.scorer import ClipScorer, existing, load_transformers_clip
from pairuni.rewards.clip.text import load_tokenizer
from pairuni.rewards.composition.boxes import BoxDetector
from pairuni.rewards.composition.colours import ClipColours, open_clip_pixels
from pairuni.rewards.composition.detection import ColourNamer, Detector
from pairuni.rewards.composition.looking import Looking
from pairuni.rewards.composition.mask2former import Mask2FormerDetector
from pairuni.rewards.composition.rules import COUNTING_THRESHOLD, THRESHOLD
from pairuni.rewards.own import make_own

DETECTORS = {"digits": "pairuni.digits.objects:DigitsDetector"}

_loading = threading.Lock()


def load_detector(
    name: str,
    *,
    device: str = "auto",
    least: float = 0.3,
    batch_size: int = 8,
    setting: str = "reward.composition.detector",
) -> Detector:
    """The detector of this name: digits, a ``transformers`` folder or hub name, or package.module:Class.

    least: objects that are less sure may be left out. A class of one's own is made without arguments. Raises
    FileNotFoundError for a missing path, naming the setting, and ValueError when nothing can be loaded.
    """
    location = DETECTORS.get(name, name)
    if ":" in location:
        has = {"name": str, "labels": Collection, "names_colours": bool}
        own: Detector = make_own(location, f"the detector {name!r}", has)
        return own
    path = existing(name, setting)
    source = name if path is None else str(path.absolute())
    with _loading:
        return _load_model(source, name, check_device(resolve_device(device)), least, batch_size)


def load_colours(name: str, *, device: str = "auto", setting: str = "reward.composition.clip") -> ColourNamer:
    """Colours by the CLIP model of a ``transformers`` folder or hub name.

    Raises FileNotFoundError for a missing path, naming the setting, and ValueError when nothing can be loaded.
    """
    path = existing(name, setting)
    with _loading:
        return _load_clip(
            name if path is None else str(path.absolute()), name, check_device(resolve_device(device))
        )


def load_looking(
    detector: str,
    clip: str,
    *,
    device: str = "auto",
    batch_size: int = 8,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
    settings: str = "reward.composition.",
) -> Looking:
    """The detector of this name, and the CLIP that names colours, unless the detector does.

    settings: what stands before "detector" and "clip" where a missing path is told to be set. Raises as
    ``load_detector`` and ``load_colours`` do.
    """
    least = min(threshold, counting_threshold)
    found = load_detector(
        detector, device=device, least=least, batch_size=batch_size, setting=f"{settings}detector"
    )
    colours = None if found.names_colours else load_colours(clip, device=device, setting=f"{settings}clip")
    return Looking(found, colours, threshold, counting_threshold)


@lru_cache(maxsize=4)
def _load_model(source: str, name: str, device: torch.device, least: float, batch_size: int) -> Detector:
    from transformers import AutoConfig, AutoModelForObjectDetection, Mask2FormerForUniversalSegmentation

    folder = str(model_folder(source, kind="detector"))
    try:
        kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
        made = Mask2FormerForUniversalSegmentation if kind == "mask2former" else AutoModelForObjectDetection
        model, loading = made.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
        processor = None if kind == "mask2former" else _processor(folder)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"no detector can be loaded from {source!r}: {reason}") from None
    if absent := sorted(loading["missing_keys"]):
        raise ValueError(f"the detector {source!r} lacks weights, {absent[0]} among them")
    if processor is None:
        return Mask2FormerDetector(model, name, device=device, least=least, batch_size=batch_size)
    return BoxDetector(model, processor, name, device=device, least=least, batch_size=batch_size)


def _processor(folder: str) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil")


@lru_cache(maxsize=2)
def _load_clip(source: str, name: str, device: torch.device) -> ClipColours:
    model = load_transformers_clip(source)
    pixels = partial(open_clip_pixels, size=model.config.vision_config.image_size)
    return ClipColours(ClipScorer(model, load_tokenizer(source), pixels, device=device), name)
