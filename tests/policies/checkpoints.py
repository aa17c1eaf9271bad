"""Random checkpoints of the original layout on disk, as deepseek-ai releases them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import processors
from torch import Tensor

from reference.original_janus import original_shapes, small_config
from tiny_models import BOS, EOS, IMAGE, tiny_tokenizer


def original_tensors(
    config: dict[str, Any], *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (0.3 * torch.randn(shape, generator=generator)).to(dtype)
        for name, shape in original_shapes(config).items()
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_json(path: Path, section: str | None = None, **changes: Any) -> None:
    """Set keys of a JSON file, or of one section of it; a file that is missing is made."""
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    (content if section is None else content[section]).update(changes)
    write_json(path, content)


def save_original(
    folder: Path, *, kind: str = "bin", dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Write a small original checkpoint; its tokenizer.json leaves BOS to the tokenizer class."""
    folder.mkdir(parents=True)
    tokenizer = tiny_tokenizer().backend_tokenizer
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = small_config(tokenizer.get_vocab_size())
    tensors = original_tensors(config, dtype=dtype)
    write_json(folder / "config.json", config)
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "bos_token": {"__type": "AddedToken", "content": BOS, "normalized": True},
            "eos_token": {"__type": "AddedToken", "content": EOS, "normalized": True},
            "pad_token": EOS,
            "model_max_length": 512,
            "tokenizer_class": "LlamaTokenizerFast",
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "VLMImageProcessor",
            "processor_class": "VLChatProcessor",
            "background_color": [127, 127, 127],
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_size": 32,
            "image_std": [0.5, 0.5, 0.5],
            "min_size": 14,
            "rescale_factor": 1 / 255,
        },
    )
    write_json(
        folder / "processor_config.json",
        {
            "add_special_token": False,
            "ignore_id": -100,
            "image_tag": IMAGE,
            "mask_prompt": True,
            "num_image_tokens": 16,
            "processor_class": "VLChatProcessor",
            "sft_format": "deepseek",
        },
    )
    names = sorted(tensors)
    shards = [{name: tensors[name] for name in names[half::2]} for half in (0, 1)]
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    elif kind == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        files = [f"pytorch_model-0000{place + 1}-of-00002.bin" for place in range(2)]
        for file, shard in zip(files, shards, strict=True):
            torch.save(shard, folder / file)
        where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        write_json(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": where})
    return tensors
