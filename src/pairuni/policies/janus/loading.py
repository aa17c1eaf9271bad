"""Reading a Janus checkpoint of either layout into ``transformers.JanusForConditionalGeneration``.

A folder may come from anybody: nothing in it is run, and what it says is checked before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration, JanusProcessor
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.utils import logging as transformers_logging

from pairuni.policies.files import described_by, optional_json, read_json
from pairuni.policies.janus.conversation import DEFAULT_FORMAT, FORMATS, ConversationFormat, speaks
from pairuni.policies.janus.generation import load_generation_config
from pairuni.policies.janus.layout import MODEL_TYPES, Layout, config_to_transformers, to_transformers
from pairuni.policies.janus.prompts import IMAGE_TOKENS, JanusPrompts
from pairuni.policies.janus.tokenizer import load_tokenizer
from pairuni.policies.janus.weights import check_tensors, few, is_finite, read_tensors
from pairuni.policies.relatives import refusal, relative_by_config

PROCESSOR_FILE, IMAGES_FILE = "processor_config.json", "preprocessor_config.json"
TEMPLATE_FILE = "chat_template.jinja"

IMAGE_TAGS = {"image_token": "image_tag", "boi_token": "image_start_tag", "eoi_token": "image_end_tag"}
"""What processor_config.json of the original layout calls the image tokens."""

_LOADER_KEYS = ("attn_implementation", "experts_implementation", "auto_map")
"""Keys of config.json that choose code instead of describing the model; some would fetch it from the hub."""

_MOST_LAYERS = 1024
_COUNTS = ("num_hidden_layers", "layers", "depth", "num_res_blocks")


def read_config(folder: Path) -> tuple[dict[str, Any], Layout]:
    """config.json of a Janus checkpoint and the layout it announces.

    Raises ValueError for another model, for numbers that no model has, and for quantised weights.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder of a Janus checkpoint.")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a Janus checkpoint.")
    config = read_json(path)
    if relative := relative_by_config(config):
        raise ValueError(refusal(path, relative))
    layout = MODEL_TYPES.get(str(config.get("model_type")))
    if layout is None:
        raise ValueError(
            f"{path} has the model_type {config.get('model_type')!r}; known: {', '.join(MODEL_TYPES)}."
        )
    if config.get("quantization_config") is not None:
        raise ValueError(
            f"{path} describes quantised weights, which cannot be trained; use the released ones."
        )
    with described_by(path):
        _check_numbers(config)
        return _described(config), layout


def _described(config: Any) -> Any:
    """A configuration without the keys that choose code, at any depth."""
    if isinstance(config, dict):
        return {
            key: _described(value)
            for key, value in config.items()
            if key not in _LOADER_KEYS and not key.startswith("_")
        }
    return config


def _check_numbers(value: Any, key: str = "") -> None:
    """Raise ValueError for numbers that would make the library build for ever, or that are none."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, name)
    elif isinstance(value, list):
        if len(value) > _MOST_LAYERS:
            raise ValueError(f"{key} has {len(value)} items")
        for inner in value:
            _check_numbers(inner, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        most = _MOST_LAYERS if key in _COUNTS else 2**31
        if not math.isfinite(value) or abs(value) > most:
            raise ValueError(f"{key} is {str(value)[:40]}, at most {most} is possible")


def load_processor(folder: Path, layout: Layout) -> JanusProcessor:
    """Tokenizer, PIL image processor and chat template, whatever image backends are installed.

    Raises ValueError naming the file that is missing, damaged or of another model.
    """
    path = folder / PROCESSOR_FILE
    settings = optional_json(path)
    tokens = _setting(settings, "num_image_tokens", 576, int, path)
    system = _setting(settings, "use_default_system_prompt", layout == "original", bool, path)
    names = dict(IMAGE_TOKENS)
    if layout == "original":
        names = {role: _setting(settings, IMAGE_TAGS[role], name, str, path) for role, name in names.items()}
    processor = JanusProcessor(
        image_processor=_load_images(folder, settings),
        tokenizer=load_tokenizer(folder, names),
        chat_template=_chat_template(folder, settings),
        use_default_system_prompt=system,
        num_image_tokens=tokens,
    )
    if layout == "original":
        # the original code reads no template: one that is there counts where it says the same
        speech = _original_format(settings, path)
        if not processor.chat_template or not speaks(processor, speech):
            processor.chat_template = speech.template(processor.image_token)
    elif not processor.chat_template:
        processor.chat_template = FORMATS[DEFAULT_FORMAT].template(processor.image_token)
    return processor


def _original_format(settings: Mapping[str, Any], path: Path) -> ConversationFormat:
    name = _setting(settings, "sft_format", DEFAULT_FORMAT, str, path)
    if name not in FORMATS:
        raise ValueError(f"{path} has the sft_format {name!r}; supported: {', '.join(FORMATS)}.")
    return FORMATS[name]


def _setting(settings: Mapping[str, Any], key: str, default: Any, kind: type, path: Path) -> Any:
    value: Any = settings.get(key)
    if value is None:
        return default
    if type(value) is not kind or value == "" or (kind is int and value not in range(1, 2**20)):
        raise ValueError(f"{path} gives {key} as {str(value)[:80]!r}, which cannot be; restore the file.")
    return value


def _load_images(folder: Path, settings: Mapping[str, Any]) -> JanusImageProcessorPil:
    """How images are preprocessed, as ``preprocess`` reads it."""
    path, pictures = folder / PROCESSOR_FILE, settings.get("image_processor")
    if not pictures:
        path = folder / IMAGES_FILE
        pictures = optional_json(path)
    if not pictures:
        raise ValueError(f"{folder} has no preprocessor_config.json; copy it from the released checkpoint.")
    with described_by(path):
        known = ("size", "min_size", "image_mean", "image_std", "rescale_factor", "do_normalize", "resample")
        kwargs = {key: pictures[key] for key in known if pictures.get(key) is not None}
        if "image_size" in pictures:
            kwargs["size"] = {"height": pictures["image_size"], "width": pictures["image_size"]}
        processor = JanusImageProcessorPil(**kwargs)
        _check_images(processor, pictures)
    return processor


def _check_images(processor: JanusImageProcessorPil, said: Mapping[str, Any]) -> None:
    """Raise ValueError for what cannot be preprocessed with."""
    side = processor.size["height"]
    sizes = (side, processor.size["width"], processor.min_size)
    if not all(type(size) is int and 0 < size <= 2**14 for size in sizes) or len(set(sizes[:2])) > 1:
        raise ValueError(f"images of {sizes[0]} x {sizes[1]} with sides of at least {sizes[2]} cannot be")
    if processor.min_size > side:
        raise ValueError(f"min_size is {processor.min_size}, more than an image's side of {side}")
    if not isinstance(processor.do_normalize, bool):
        raise ValueError("do_normalize must be true or false")
    if processor.resample not in range(6):
        raise ValueError(f"resample is {processor.resample!r}, but must be one of PIL's filters, 0 to 5")
    means, scales = processor.image_mean, [*processor.image_std, processor.rescale_factor]
    if len(means) != 3 or len(scales) != 4:
        raise ValueError("image_mean and image_std must hold 3 numbers each")
    for value in (*means, *scales):
        if type(value) not in (int, float) or not 0 <= value < 1e6:
            raise ValueError(f"image_mean, image_std or rescale_factor holds {value!r}")
    if not all(scales):
        raise ValueError("image_std or rescale_factor holds 0")
    for key in ("do_resize", "do_rescale", "do_pad"):
        if said.get(key) is False:
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


def parse_config(
    config: dict[str, Any], layout: Layout, processor: JanusProcessor, folder: Path
) -> JanusConfig:
    """The ``JanusConfig`` of either layout's config.json, checked against the tokenizer and the processor.

    Raises ValueError where these belong to different models, or where config.json describes none.
    """
    path = folder / "config.json"
    prompts = JanusPrompts(processor)
    if layout == "original":
        parsed = config_to_transformers(config, image_token_id=prompts.image, path=path)
        text = parsed.text_config
        text.bos_token_id, text.eos_token_id, text.pad_token_id = prompts.bos, prompts.eos, prompts.pad
    else:
        with described_by(path):
            parsed = JanusConfig.from_dict(config)
    with described_by(path):
        text, vision, grid = parsed.text_config, parsed.vision_config, int(parsed.vq_config.num_patches)
        patches = (vision.image_size // vision.patch_size) ** 2
        if text.model_type != "llama" or text.hidden_act != "silu":
            raise ValueError(f"its language model is a {text.model_type} with {text.hidden_act}, not a Llama")
        if text.max_position_embeddings < 1:
            raise ValueError(f"its context has {text.max_position_embeddings} positions")
        largest = max(processor.tokenizer.get_vocab().values())
        if largest >= text.vocab_size:
            raise ValueError(f"its vocabulary has {text.vocab_size} tokens, tokenizer.json {largest + 1}")
    side = processor.image_processor.size["height"]
    if vision.image_size != side:
        raise ValueError(
            f"{path} describes a vision tower for images of {vision.image_size} pixels, but the processor "
            f"makes them {side} wide; correct the size in {IMAGES_FILE} or {PROCESSOR_FILE}."
        )
    for part, count, shape in (
        ("pictures", grid**2, f" of {grid} x {grid} patches"),
        ("vision tower's images", patches, ""),
    ):
        if processor.num_image_tokens != count:
            raise ValueError(
                f"The processor expects {processor.num_image_tokens} tokens an image, but the model's {part}"
                f"{shape} have {count}; correct num_image_tokens in {folder / PROCESSOR_FILE}."
            )
    if parsed.image_token_id != prompts.image:
        raise ValueError(
            f"{path} says that the image token is {parsed.image_token_id}, but the tokenizer says "
            f"{prompts.image}; the tokenizer belongs to another checkpoint."
        )
    return parsed


def load_model(
    folder: Path, *, dtype: torch.dtype | None = None, weights: bool = True
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Model in eval mode on the CPU and its processor. dtype None keeps the checkpoint's own.

    weights: without them the model has its shapes alone, on the device "meta".

    Raises ValueError when the folder lacks its tokenizer or weights, or when these do not fit config.json.
    """
    raw, layout = read_config(folder)
    processor = load_processor(folder, layout)
    config = parse_config(raw, layout, processor, folder)
    generation = load_generation_config(folder, raw, processor)
    model = _filled(folder, config, layout, dtype) if weights else _shapes(folder, config, dtype)
    model.generation_config = generation
    return model.eval(), processor


def _filled(
    folder: Path, config: JanusConfig, layout: Layout, dtype: torch.dtype | None
) -> JanusForConditionalGeneration:
    tensors = read_tensors(folder)
    if layout == "original":
        tensors, _ = to_transformers(tensors)
    untie(config, tensors)
    check_tensors(tensors, config, folder)
    own = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    with quiet():
        model = JanusForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype or own
        )
    if dtype == torch.float16:  # the one type that holds fewer magnitudes than others
        broken = [name for name, tensor in model.named_parameters() if not is_finite(tensor.detach())]
        if broken:
            raise ValueError(f"The weights in {folder} exceed float16 ({few(broken)}); choose another dtype.")
    return model


def _shapes(folder: Path, config: JanusConfig, dtype: torch.dtype | None) -> JanusForConditionalGeneration:
    with described_by(folder / "config.json"), torch.device("meta"):
        return JanusForConditionalGeneration(config).to(dtype or torch.float32)


def untie(config: JanusConfig, tensors: Mapping[str, Tensor]) -> None:
    """A checkpoint that stores its own lm_head has one: never let the configuration's default replace it."""
    if "lm_head.weight" in tensors:
        config.tie_word_embeddings = False
        config.text_config.tie_word_embeddings = False


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar of the library while it fills a model that is already in memory."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
