"""Reading a Janus checkpoint of either layout into ``transformers.JanusForConditionalGeneration``."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.utils import logging as transformers_logging

from pairuni.policies.janus.layout import (
    MODEL_TYPES,
    Layout,
    config_to_transformers,
    to_transformers,
)
from pairuni.policies.janus.prompts import CHAT_TEMPLATE, IMAGE_TOKENS, PAD_TOKEN, JanusPrompts

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Weight files looked for, the first found wins; each may be sharded with an index beside it."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError naming the file when it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); restore the file.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; restore the file.")
    return content


def read_config(folder: Path) -> tuple[dict[str, Any], Layout]:
    """config.json of a Janus checkpoint and the layout it announces."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder of a Janus checkpoint.")
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a Janus checkpoint.")
    config = read_json(path)
    layout = MODEL_TYPES.get(config.get("model_type", ""))
    if layout is None:
        raise ValueError(
            f"{path} has the model_type {config.get('model_type')!r}; known: {', '.join(MODEL_TYPES)}."
        )
    return config, layout


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder, on the CPU: safetensors, or PyTorch files free of pickled code."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = sorted(set(read_json(index).get("weight_map", {}).values()))
            if any(Path(file).name != file for file in files):
                raise ValueError(f"{index} names weights outside its folder; restore the file.")
            missing = [file for file in files if not (folder / file).is_file()]
            if missing or not files:
                raise ValueError(
                    f"{folder} lacks the weight files {missing} of {index.name}; download them again."
                )
            return {key: tensor for file in files for key, tensor in _read_file(folder / file).items()}
        if (folder / name).is_file():
            return _read_file(folder / name)
    raise ValueError(f"{folder} has no weights ({' or '.join(WEIGHTS)}); download them.")


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as plain tensors ({reason}); download it again.") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} is not a table of tensors; give the released checkpoint.")
    return content


def load_processor(folder: Path, layout: Layout) -> JanusProcessor:
    """Tokenizer, PIL image processor and chat template, whatever image backends are installed."""
    settings = _optional_json(folder / "processor_config.json")
    pictures = settings.get("image_processor") or _optional_json(folder / "preprocessor_config.json")
    if not pictures:
        raise ValueError(f"{folder} has no preprocessor_config.json; copy it from the released checkpoint.")
    known = ("size", "min_size", "image_mean", "image_std", "rescale_factor", "do_normalize", "resample")
    kwargs = {key: pictures[key] for key in known if key in pictures}
    if "image_size" in pictures:
        kwargs["size"] = {"height": pictures["image_size"], "width": pictures["image_size"]}
    return JanusProcessor(
        image_processor=JanusImageProcessorPil(**kwargs),
        tokenizer=load_tokenizer(folder),
        chat_template=_chat_template(folder, settings) or CHAT_TEMPLATE,
        use_default_system_prompt=settings.get("use_default_system_prompt", layout == "original"),
        num_image_tokens=settings.get("num_image_tokens", 576),
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """tokenizer.json as it is, padding on the left, BOS in front, pad and image tokens by name."""
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(
            f"{folder} has no tokenizer.json; copy the tokenizer files of the released checkpoint."
        )
    settings = _optional_json(folder / "tokenizer_config.json")
    extra = settings.get("extra_special_tokens")
    named = {**(extra if isinstance(extra, dict) else {}), **settings}
    tokens = {role: _content(named.get(role, token)) for role, token in IMAGE_TOKENS.items()}
    defaults = _optional_json(folder / "special_tokens_map.json")
    missing = {
        role: _content(defaults[role])
        for role in ("bos_token", "eos_token", "pad_token")
        if settings.get(role) is None and defaults.get(role) is not None
    }
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            folder, extra_special_tokens=tokens, padding_side="left", **missing
        )
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise ValueError(
            f"{folder / 'tokenizer.json'} cannot be read ({error}); restore the file."
        ) from error
    lost = [token for token in tokens.values() if token not in tokenizer.get_vocab()]
    if lost:
        raise ValueError(
            f"{folder / 'tokenizer.json'} has no {', '.join(lost)}; use the tokenizer of a Janus model."
        )
    if PAD_TOKEN in tokenizer.get_vocab():
        tokenizer.pad_token = PAD_TOKEN
    if tokenizer.bos_token and tokenizer("a")["input_ids"][0] != tokenizer.bos_token_id:
        tokenizer.add_bos_token = True
    return tokenizer


def _content(token: Any) -> str:
    """Older tokenizer files write a special token as an object around its text."""
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for source in (
        _optional_json(folder / "chat_template.json"),
        settings,
        _optional_json(folder / "tokenizer_config.json"),
    ):
        if isinstance(source.get("chat_template"), str):
            return str(source["chat_template"])
    return None


def parse_config(config: dict[str, Any], layout: Layout, processor: JanusProcessor) -> JanusConfig:
    """The ``JanusConfig`` of either layout's config.json, checked against the tokenizer and the processor."""
    prompts = JanusPrompts(processor)
    if layout == "original":
        parsed = config_to_transformers(config, image_token_id=prompts.image)
    else:
        parsed = JanusConfig.from_dict(config)
    grid = parsed.vq_config.num_patches
    if processor.num_image_tokens != grid**2:
        raise ValueError(
            f"The processor expects {processor.num_image_tokens} tokens an image, but the model's pictures "
            f"of {grid} x {grid} patches have {grid**2}; correct num_image_tokens in processor_config.json."
        )
    if parsed.image_token_id != prompts.image:
        raise ValueError(
            f"config.json says that the image token is {parsed.image_token_id}, but the tokenizer says "
            f"{prompts.image}; the tokenizer belongs to another checkpoint."
        )
    return parsed


def check_tensors(found: Mapping[str, Tensor], config: JanusConfig, source: Path) -> None:
    """Raise ValueError naming the first few tensors that are missing, unexpected or of another shape."""
    with torch.device("meta"):
        expected = {
            name: tensor.shape for name, tensor in JanusForConditionalGeneration(config).state_dict().items()
        }
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    problems = []
    for kind, names in (
        ("missing", [name for name in expected if name not in found]),
        ("unexpected", [name for name in found if name not in expected]),
        (
            "of another shape than config.json says",
            [name for name in expected if name in found and found[name].shape != expected[name]],
        ),
    ):
        if names:
            more = ", ..." if len(names) > 3 else ""
            problems.append(f"{len(names)} tensors are {kind} ({', '.join(names[:3])}{more})")
    if problems:
        raise ValueError(f"The weights in {source} do not fit their config.json: {'; '.join(problems)}.")


def load_model(
    folder: Path, *, dtype: torch.dtype | None = None, weights: bool = True
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Model in eval mode on the CPU and its processor. dtype None keeps the checkpoint's own.

    weights: without them the model has its shapes alone, on the device "meta".

    Raises ValueError when the folder lacks its tokenizer or weights, or when these do not fit config.json.
    """
    raw, layout = read_config(folder)
    processor = load_processor(folder, layout)
    config = parse_config(raw, layout, processor)
    model = _filled(folder, config, layout, dtype) if weights else _shapes(config, dtype)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    complete_generation_config(model.generation_config, JanusPrompts(processor))
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
        return JanusForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype or own
        )


def _shapes(config: JanusConfig, dtype: torch.dtype | None) -> JanusForConditionalGeneration:
    with torch.device("meta"):
        return JanusForConditionalGeneration(config).to(dtype or torch.float32)


def untie(config: JanusConfig, tensors: Mapping[str, Tensor]) -> None:
    """A checkpoint that stores its own lm_head has one: never let the configuration's default replace it."""
    if "lm_head.weight" in tensors:
        config.tie_word_embeddings = False
        config.text_config.tie_word_embeddings = False


def complete_generation_config(generation: GenerationConfig, prompts: JanusPrompts) -> None:
    """Special tokens by name, as plain ``generate`` needs them for text and for images."""
    generation.bos_token_id, generation.eos_token_id = prompts.bos, prompts.eos
    generation.pad_token_id = prompts.pad
    generation.generation_kwargs = {"boi_token_id": prompts.begin_image}


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
