"""CLIP's tokenizer, and the cleaning of prompts in open_clip."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pairuni.io.hub import TEXT_FILES, model_folder
from pairuni.rewards.pretrained import first_line

ORIGINAL_MERGES = 49152 - 256 - 2
"""Merges that CLIP reads from its vocabulary file; it ignores the lines after them."""


def open_clip_cleaning() -> Callable[[str], str]:
    """The cleaning of open_clip's tokenizer: ftfy, HTML entities twice, white space, lower case.

    Raises ImportError with the install command if ftfy is missing.
    """
    try:
        from ftfy import fix_text
    except ImportError:
        raise ImportError("HPSv2 cleans prompts with ftfy: pip install 'pairuni[clip]'") from None

    def clean(text: str) -> str:
        text = html.unescape(html.unescape(fix_text(text))).strip()
        return re.sub(r"\s+", " ", text).strip().lower()

    return clean


def load_tokenizer(source: str) -> Any:
    """CLIP's tokenizer from a ``transformers`` folder, a hub name or open_clip's bpe_simple_vocab_16e6.txt.gz.

    Raises ValueError if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    path = Path(source).expanduser()
    if path.is_file():
        return _from_merges(path)
    try:
        return AutoTokenizer.from_pretrained(
            str(model_folder(source, kind="CLIP tokenizer", files=TEXT_FILES))
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot load CLIP's tokenizer from {source!r} ({first_line(error)}); give a transformers folder, a hub "
            "name or open_clip's bpe_simple_vocab_16e6.txt.gz"
        ) from None


def token_ids(
    tokenizer: Any, prompts: Sequence[str], length: int, clean: Callable[[str], str] | None
) -> Tensor:
    """Tokens [N, L] with start and end tokens, L at most ``length``; longer prompts are truncated.

    The padding is end tokens: attention is causal and CLIP reads the first end token, so padding has no effect.
    """
    texts = [clean(prompt) if clean else prompt for prompt in prompts]
    rows = tokenizer(texts, truncation=True, max_length=length, padding=True)["input_ids"]
    return torch.tensor(rows, dtype=torch.long)


def _from_merges(path: Path) -> Any:
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a vocabulary of CLIP (bpe_simple_vocab_16e6.txt.gz): {error}"
        ) from None
    merges = [tuple(line.split()) for line in lines[1 : ORIGINAL_MERGES + 1] if line]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise ValueError(f"{path} is not a vocabulary of CLIP (bpe_simple_vocab_16e6.txt.gz)")
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(merge) for merge in merges)]
    vocabulary = {word: place for place, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)
