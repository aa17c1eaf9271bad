"""Special token ids of Lumina-DiMOO and the vocabulary that they imply.

The numbers are those of the original code (Alpha-VLLM/Lumina-DiMOO, ``config.py`` and ``train/train.py``). Text tokens
come first; the codes of pictures end the vocabulary, so that the id of code 0 is the vocabulary minus the codebook.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

SECTION = "token_ids"
"""Key of config.json under which a model with other ids declares them; the released model has no such key."""

NAMES = {
    "mask": "<|mdm_mask|>",
    "end": "<|endoftext|>",
    "image_start": "<IMAGE>",
    "image_end": "</IMAGE>",
    "uncondition": "<uncondition>",
    "answer_start": "<answer>",
    "answer_end": "</answer>",
}
"""Names of special tokens in the tokenizer. Newline and padding are reserved tokens, known by number only."""

_WRITTEN = ("uncondition", "answer_end")
"""Tokens that prompts and training texts write out by name, so that the tokenizer must have them."""


@dataclass(frozen=True, kw_only=True)
class TokenIds:
    """Special ids; the defaults are those of the released model.

    mask: stands for a token that is not yet set. newline: ends each row of a picture. end: ends a text.
    padding: fills answers in training. codes: the id of code 0. codebook: the number of codes.
    Raises ValueError for ids that collide.
    """

    mask: int = 126336
    newline: int = 126084
    end: int = 126081
    padding: int = 126339
    image_start: int = 126349
    image_end: int = 126350
    uncondition: int = 126351
    answer_start: int = 126354
    answer_end: int = 126355
    codes: int = 126356
    codebook: int = 8192

    def __post_init__(self) -> None:
        special = [getattr(self, field.name) for field in fields(self)[:-2]]
        if len(set(special)) < len(special) or not all(0 <= one < self.codes for one in special):
            raise ValueError(
                f"The special ids {special} must differ from each other and lie below the picture codes, which begin "
                f"at {self.codes}."
            )
        if self.codebook < 1:
            raise ValueError(f"The codebook has {self.codebook} codes, but needs at least 1.")

    @property
    def vocabulary(self) -> int:
        """The only possible size of the vocabulary."""
        return self.codes + self.codebook

    def check_vocabulary(self, size: int, source: Path) -> None:
        """Raise ValueError when a model's vocabulary does not end with the picture codes."""
        if size != self.vocabulary:
            raise ValueError(
                f"{source} gives a vocabulary of {size:,} tokens, but the picture codes from {self.codes:,} on end "
                f"one of {self.vocabulary:,}; use the released checkpoint."
            )

    def check_tokenizer(self, vocabulary: Mapping[str, int], source: Path) -> None:
        """Raise ValueError when the tokenizer gives special tokens other ids, or lacks those that prompts write.

        vocabulary: token -> id, added tokens included.
        """
        for role, token in NAMES.items():
            found, expected = vocabulary.get(token), getattr(self, role)
            if found is None and role in _WRITTEN:
                raise ValueError(f"{source} has no token {token}; use the tokenizer of Lumina-DiMOO.")
            if found is not None and found != expected:
                raise ValueError(
                    f"{source} gives {token} the id {found:,} instead of {expected:,}; use the tokenizer of the same "
                    "checkpoint."
                )

    def declared(self) -> dict[str, int]:
        """The section of config.json that declares these ids; empty for the released ones."""
        return {} if self == TokenIds() else asdict(self)


def token_ids(config: Mapping[str, Any], path: Path) -> TokenIds:
    """The ids of the model that a config.json describes. Raises ValueError naming the file for a bad section."""
    said = config.get(SECTION, {})
    known = {field.name for field in fields(TokenIds)}
    if not isinstance(said, dict) or not all(isinstance(one, int) for one in said.values()):
        raise ValueError(f"{path} must give {SECTION} as names and numbers; restore the file.")
    if unknown := sorted(set(said) - known):
        raise ValueError(f"{path} gives {SECTION} unknown names ({', '.join(unknown)}); restore the file.")
    try:
        return TokenIds(**said)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
