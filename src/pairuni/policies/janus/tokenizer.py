"""The tokenizer of a Janus checkpoint, with the special tokens that its configuration files declare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import JanusProcessor, PreTrainedTokenizerFast

from pairuni.policies.files import described_by, optional_json, read_json
from pairuni.policies.janus.prompts import IMAGE_TOKENS, PAD_TOKEN

TOKENIZER_FILE = "tokenizer.json"
KEPT_FILE = "original_tokenizer.json"
"""In the transformers layout: tokenizer.json of the original layout, for the conversion back."""

_CONFIG, _MAP = "tokenizer_config.json", "special_tokens_map.json"
_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def load_tokenizer(folder: Path, image_tokens: Mapping[str, str] = IMAGE_TOKENS) -> PreTrainedTokenizerFast:
    """tokenizer.json unchanged, padding on the left, BOS in front, image tokens by name.

    image_tokens: attribute -> name of the image token, unless tokenizer_config.json gives another. Raises ValueError
    naming the file that is missing, damaged or of another model.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no tokenizer.json; copy the tokenizer files of the released checkpoint."
        )
    read_json(path)
    with described_by(path):
        backend = Tokenizer.from_file(str(path))
        vocabulary = backend.get_vocab(with_added_tokens=True)
    settings, declared = optional_json(folder / _CONFIG), optional_json(folder / _MAP)
    with described_by(folder / (_MAP if declared and not settings else _CONFIG)):
        named = _named(settings, declared)
        extra = _listed(settings, declared)
        nested = settings.get("extra_special_tokens")
        others = {**(nested if isinstance(nested, dict) else {}), **settings}
        images = {role: _content(others.get(role, token)) for role, token in image_tokens.items()}
    missing = [token for token in images.values() if token not in vocabulary]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; use the tokenizer of a Janus model.")
    if named.get("pad_token") is None and PAD_TOKEN in vocabulary:
        named["pad_token"] = PAD_TOKEN
    with described_by(path):
        if named.get("bos_token") and backend.encode("a").ids[:1] != [vocabulary.get(named["bos_token"])]:
            named["add_bos_token"] = True
    with described_by(folder / _CONFIG):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(
            folder, extra_special_tokens=extra, padding_side="left", **images, **named
        )
        tokenizer("a")
    unnamed = [role for role in ("bos_token", "eos_token") if not getattr(tokenizer, role)]
    if unnamed:
        raise ValueError(f"{folder / _CONFIG} names no {' and no '.join(unnamed)}; restore the file.")
    return tokenizer


def read_tokenizer(folder: Path) -> bytes:
    """tokenizer.json as in the original layout. Raises ValueError where two files contradict."""
    path, kept = folder / TOKENIZER_FILE, folder / KEPT_FILE
    if not kept.is_file():
        return path.read_bytes()
    vocabularies = []
    for file in (path, kept):
        with described_by(file):
            vocabularies.append(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True))
    if vocabularies[0] != vocabularies[1]:
        raise ValueError(f"{kept} has another vocabulary than {TOKENIZER_FILE}; remove it.")
    return kept.read_bytes()


def write_processor(processor: JanusProcessor, folder: Path, tokenizer: bytes | None) -> None:
    """Save a processor for plain ``transformers``, and tokenizer.json byte for byte as it was read.

    Older libraries cannot read what newer ones write, so the file that was read replaces tokenizer.json. Original
    files leave BOS to the tokenizer's class, and ``transformers`` would never add it; in that case tokenizer.json is
    the library's own, and the file that was read is kept as ``KEPT_FILE``.
    """
    processor.save_pretrained(folder)
    if tokenizer is not None:
        name = KEPT_FILE if processor.tokenizer.add_bos_token else TOKENIZER_FILE
        (folder / name).write_bytes(tokenizer)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Names of the special tokens in the form of the original layout: roles, and a list of all others."""
    others = [str(token) for token in tokenizer.extra_special_tokens]
    roles = {role: getattr(tokenizer, role) for role in ("bos_token", "eos_token", "pad_token")}
    return {**({"additional_special_tokens": others} if others else {}), **roles}


def _named(settings: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens by role, in the original tokenizer class's order of precedence: special_tokens_map.json is read
    last, unless tokenizer_config.json lists the added tokens."""
    first, last = (declared, settings) if "added_tokens_decoder" in settings else (settings, declared)
    merged = {role: last.get(role) if last.get(role) is not None else first.get(role) for role in _ROLES}
    return {role: _content(token) for role, token in merged.items() if token is not None}


def _listed(*sources: Mapping[str, Any]) -> list[str]:
    """Special tokens without a role, from all files, each once."""
    lists = [source[key] for source in sources for key in _LISTS if isinstance(source.get(key), list)]
    return list(dict.fromkeys(_content(token) for tokens in lists for token in tokens))


def _content(token: Any) -> str:
    """Older tokenizer files write a special token as an object around its text."""
    text = token["content"] if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TypeError(f"a special token is {str(text)[:40]}, but must be a text")
    return text
