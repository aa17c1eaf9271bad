"""A whole Lumina-DiMOO checkpoint of either layout: weights, special ids, tokenizer and VQ.

The tokenizer is read from tokenizer.json; the original loads it with code from the hub, which never runs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from pairuni.policies.files import described_by, read_json
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.vq import FOLDER, LuminaVQ, load_vq
from pairuni.policies.lumina_dimoo.weights import load_model, read_config, save_model

TOKENIZER_FILE = "tokenizer.json"
_TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True, kw_only=True, eq=False)
class LuminaCheckpoint:
    """config: the content of config.json; files: the tokenizer's files by name. Both are saved as they were read."""

    model: LlamaForCausalLM
    ids: TokenIds
    tokenizer: PreTrainedTokenizerFast
    vq: LuminaVQ
    config: dict[str, Any]
    files: dict[str, bytes]

    def save(self, folder: Path) -> None:
        """Write the original layout into an existing folder, for this package and for the original code."""
        save_model(self.model, self.ids, folder, original=self.config)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        self.vq.model.save_pretrained(folder / FOLDER)


def load_checkpoint(
    folder: Path, *, dtype: torch.dtype | None = None, weights: bool = True
) -> LuminaCheckpoint:
    """Everything in a checkpoint's folder, on the CPU; dtype and weights as in ``load_model``.

    Raises ValueError naming the file that is missing, damaged or of another model, and ImportError without diffusers.
    """
    model, ids = load_model(folder, dtype=dtype, weights=weights)
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {TOKENIZER_FILE}; copy the tokenizer files of the checkpoint.")
    read_json(path)
    with described_by(path):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        vocabulary = tokenizer.get_vocab()
    ids.check_tokenizer(vocabulary, path)
    if max(vocabulary.values()) >= ids.vocabulary:
        raise ValueError(
            f"{path} has ids up to {max(vocabulary.values()):,}, but the model has {ids.vocabulary:,} tokens; use "
            "the tokenizer of the same checkpoint."
        )
    return LuminaCheckpoint(
        model=model,
        ids=ids,
        tokenizer=tokenizer,
        vq=load_vq(folder, ids, weights=weights),
        config=read_config(folder)[0],
        files={name: (folder / name).read_bytes() for name in _TOKENIZER_FILES if (folder / name).is_file()},
    )
