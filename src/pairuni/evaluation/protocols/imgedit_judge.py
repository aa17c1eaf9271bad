"""The prompts of ImgEdit's judge, one for each type of edit.

The benchmark states no licence, so they are not in this package but read from its own prompts.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.evaluation.protocols.imgedit import TYPES
from pairuni.evaluation.rows import checked, read_json

OFFICIAL = "fd33b72f180aaa31"
"""Digest of the official prompts of github.com/PKU-YuanGroup/ImgEdit, Benchmark/Basic/prompts.json."""

_FIELD = "<edit_prompt>"


@dataclass(frozen=True)
class JudgePrompts:
    """A text for each type of edit, with the placeholder <edit_prompt>."""

    texts: Mapping[str, str]

    @property
    def digest(self) -> str:
        content = json.dumps(dict(self.texts), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def official(self) -> bool:
        return self.digest == OFFICIAL

    def filled(self, edit: Mapping[str, Any]) -> str:
        """The text for an edit of basic_edit.json; its two images follow, original and edited."""
        return self.texts[edit["edit_type"]].replace(_FIELD, edit["prompt"])


def read_judge_prompts(path: Path) -> JudgePrompts:
    """The prompts in a file of the form of prompts.json: an object of type of edit -> text.

    Raises ValueError naming the file if it lacks a type, or a text lacks <edit_prompt>.
    """
    texts = checked(read_json(path), str(path), dict.fromkeys(TYPES, str))
    unfilled = [name for name in TYPES if _FIELD not in texts[name]]
    if unfilled:
        raise ValueError(f"{path}: the judge prompt {unfilled[0]} does not contain {_FIELD}")
    return JudgePrompts({name: texts[name] for name in TYPES})
