"""The processor of a Janus checkpoint: tokenizer, image preprocessing and chat template."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import JanusProcessor
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

from pairuni.policies.conversion import Layout
from pairuni.policies.files import described_by, optional_json
from pairuni.policies.janus.conversation import DEFAULT_FORMAT, FORMATS, is_in_format
from pairuni.policies.janus.prompts import IMAGE_TOKENS
from pairuni.policies.janus.tokenizer import load_tokenizer

PROCESSOR_FILE, IMAGES_FILE = "processor_config.json", "preprocessor_config.json"
TEMPLATE_FILE = "chat_template.jinja"

IMAGE_TAGS = {"image_token": "image_tag", "boi_token": "image_start_tag", "eoi_token": "image_end_tag"}
"""Image tokens by the keys of processor_config.json in the original layout."""

_IMAGE_SETTINGS = (
    *("size", "min_size", "image_mean", "image_std", "rescale_factor", "do_normalize", "resample"),
)


def load_processor(folder: Path, layout: Layout) -> JanusProcessor:
    """Tokenizer, PIL image processor and chat template, whichever image backends are installed.

    Raises ValueError naming the file that is missing, damaged or of another model.
    """
    path = folder / PROCESSOR_FILE
    settings = optional_json(path)
    original = layout == "original"
    tokens = _setting(settings, "num_image_tokens", 576, path)
    names = dict(IMAGE_TOKENS)
    if original:
        names = {role: _setting(settings, IMAGE_TAGS[role], name, path) for role, name in names.items()}
    processor = JanusProcessor(
        image_processor=_load_image_processor(folder, settings),
        tokenizer=load_tokenizer(folder, names),
        chat_template=_chat_template(folder, settings),
        use_default_system_prompt=_setting(settings, "use_default_system_prompt", original, path),
        num_image_tokens=tokens,
    )
    known = FORMATS[DEFAULT_FORMAT]
    if original:
        name = _setting(settings, "sft_format", DEFAULT_FORMAT, path)
        if name not in FORMATS:
            raise ValueError(f"{path} has the sft_format {name!r}; supported: {', '.join(FORMATS)}.")
        known = FORMATS[name]
    # the original code reads no template: one that is there counts only where it renders the same
    if not processor.chat_template or (original and not is_in_format(processor, known)):
        processor.chat_template = known.template(processor.image_token)
    return processor


def _setting(settings: Mapping[str, Any], key: str, default: Any, path: Path) -> Any:
    """A value of the type of its default, which is used if it is missing. Raises ValueError."""
    value: Any = settings.get(key)
    if value is None:
        return default
    kind = type(default)
    if type(value) is not kind or value == "" or (kind is int and value not in range(1, 2**20)):
        raise ValueError(f"{path} gives {key} as {str(value)[:80]!r}, which is impossible; restore the file.")
    return value


def _load_image_processor(folder: Path, settings: Mapping[str, Any]) -> JanusImageProcessorPil:
    """The settings of preprocessing that ``preprocess`` reads."""
    path, stated = folder / PROCESSOR_FILE, settings.get("image_processor")
    if not stated:
        path = folder / IMAGES_FILE
        stated = optional_json(path)
    if not stated:
        raise ValueError(f"{folder} has no preprocessor_config.json; copy it from the released checkpoint.")
    with described_by(path):
        kwargs = {key: stated[key] for key in _IMAGE_SETTINGS if stated.get(key) is not None}
        if "image_size" in stated:
            kwargs["size"] = {"height": stated["image_size"], "width": stated["image_size"]}
        processor = JanusImageProcessorPil(**kwargs)
        _check_image_processor(processor, stated)
    return processor


def _check_image_processor(processor: JanusImageProcessorPil, stated: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that no image can be preprocessed with."""
    side = processor.size["height"]
    sizes = (side, processor.size["width"], processor.min_size)
    if not all(type(size) is int and 0 < size <= 2**14 for size in sizes) or len(set(sizes[:2])) > 1:
        raise ValueError(
            f"images of {sizes[0]} x {sizes[1]} with sides of at least {sizes[2]} are impossible"
        )
    if processor.min_size > side:
        raise ValueError(f"min_size is {processor.min_size}, more than an image's side of {side}")
    if not isinstance(processor.do_normalize, bool):
        raise ValueError("do_normalize must be true or false")
    if processor.resample not in range(6):
        raise ValueError(f"resample is {processor.resample!r}, but must be one of PIL's filters, 0 to 5")
    means, scales = processor.image_mean, [*processor.image_std, processor.rescale_factor]
    if len(means) != 3 or len(scales) != 4:
        raise ValueError("image_mean and image_std must have 3 numbers each")
    for value in (*means, *scales):
        if type(value) not in (int, float) or not 0 <= value < 1e6:
            raise ValueError(f"image_mean, image_std or rescale_factor is {value!r}")
    if not all(scales):
        raise ValueError("image_std or rescale_factor contains 0")
    for key in ("do_resize", "do_rescale", "do_pad"):
        if stated.get(key) is False:
            raise ValueError(f"{key} is false, but Janus's images are resized, padded and rescaled")


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    path = folder / TEMPLATE_FILE
    if path.is_file():
        with described_by(path):
            return path.read_text(encoding="utf-8")
    for source in (
        optional_json(folder / "chat_template.json"),
        settings,
        optional_json(folder / "tokenizer_config.json"),
    ):
        if isinstance(source.get("chat_template"), str):
            return str(source["chat_template"])
    return None
