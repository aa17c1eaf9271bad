"""Detectors and colour classifiers by name."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch

from pairuni.custom import make_object
from pairuni.devices import check_device, resolve_device
from pairuni.io.hub import model_folder
from pairuni.rewards.clip.preprocessing import bytes_first
from pairuni.rewards.clip.scorer import ClipScorer, load_transformers_clip
from pairuni.rewards.clip.text import load_tokenizer
from pairuni.rewards.composition.boxes import BoxDetector
from pairuni.rewards.composition.colours import ClipColours
from pairuni.rewards.composition.detection import ColourClassifier, Detector
from pairuni.rewards.composition.mask2former import Mask2FormerDetector
from pairuni.rewards.composition.pipeline import DetectionPipeline
from pairuni.rewards.composition.rules import COUNTING_THRESHOLD, THRESHOLD
from pairuni.rewards.pretrained import first_line, load_complete, load_once, local_or_hub

DETECTORS = {"digits": "pairuni.digits.objects:DigitsDetector"}


def load_pipeline(
    detector: str,
    clip: str,
    *,
    device: str = "auto",
    batch_size: int = 8,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
    settings: str = "reward.composition.",
) -> DetectionPipeline:
    """The detector of this name, and the CLIP that names colours unless the detector does.

    settings: prefix of the settings "detector" and "clip", for the error about a missing path. Raises what
    ``load_detector`` and ``load_colours`` raise.
    """
    least = min(threshold, counting_threshold)
    loaded = load_detector(
        detector, device=device, least=least, batch_size=batch_size, setting=f"{settings}detector"
    )
    colours = None if loaded.names_colours else load_colours(clip, device=device, setting=f"{settings}clip")
    return DetectionPipeline(loaded, colours, threshold, counting_threshold)


def load_detector(
    name: str,
    *,
    device: str = "auto",
    least: float = 0.3,
    batch_size: int = 8,
    setting: str = "reward.composition.detector",
) -> Detector:
    """The detector of this name: digits, a ``transformers`` folder or hub name, or package.module:Class.

    least: objects with a lower confidence may be left out. A custom class is made without arguments. Raises
    FileNotFoundError for a missing path, naming the setting, and ValueError if nothing can be loaded.
    """
    location = DETECTORS.get(name, name)
    if ":" in location:
        attributes = {"name": str, "labels": Collection, "names_colours": bool}
        custom: Detector = make_object(location, f"the detector {name!r}", attributes)
        return custom
    source = local_or_hub(name, setting)
    return _load_detector(source, name, check_device(resolve_device(device)), least, batch_size)


def load_colours(
    name: str, *, device: str = "auto", setting: str = "reward.composition.clip"
) -> ColourClassifier:
    """Colours by the CLIP model of a ``transformers`` folder or hub name.

    Raises FileNotFoundError for a missing path, naming the setting, and ValueError if nothing can be loaded.
    """
    return _load_clip(local_or_hub(name, setting), name, check_device(resolve_device(device)))


@load_once(maxsize=4)
def _load_detector(source: str, name: str, device: torch.device, least: float, batch_size: int) -> Detector:
    from transformers import AutoConfig, AutoModelForObjectDetection, Mask2FormerForUniversalSegmentation

    folder, what = str(model_folder(source, kind="detector")), f"detector {source!r}"
    try:
        is_mask2former = (
            AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type == "mask2former"
        )
        processor = None if is_mask2former else _processor(folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot load the {what}: {first_line(error)}") from None
    options: dict[str, Any] = {"device": device, "least": least, "batch_size": batch_size}
    if is_mask2former:
        model = load_complete(Mask2FormerForUniversalSegmentation, folder, what=what)
        return Mask2FormerDetector(model, name, **options)
    model = load_complete(AutoModelForObjectDetection, folder, what=what)
    return BoxDetector(model, processor, name, **options)


def _processor(folder: str) -> Any:
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder, backend="pil")


@load_once(maxsize=2)
def _load_clip(source: str, name: str, device: torch.device) -> ClipColours:
    model = load_transformers_clip(source)
    pixels = partial(bytes_first, size=model.config.vision_config.image_size)
    return ClipColours(ClipScorer(model, load_tokenizer(source), pixels, device=device), name)
