"""What a checkpoint says of its run, besides tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pairuni.config import RunSettings
from pairuni.training.checkpoint import CheckpointError

_MOST = 2**53


class RunState(BaseModel):
    """A checkpoint's account of its run, besides tensors.

    The digests are SHA-256: of the pairs as trained on, of the images that they ask about, and of all weights as
    they were loaded. unlogged: the line of metrics of the last step, where it could not be written.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    num_tokens: int = Field(ge=0, le=_MOST)
    seed: int = Field(ge=0)
    pairs_per_update: int = Field(ge=1, le=_MOST)
    pairs_sha256: str
    pictures_sha256: str
    policy_sha256: str
    dtype: str = Field(pattern="^(float32|bfloat16|float16|float64)$")
    settings: dict[str, Any]
    unlogged: dict[str, Any] | None = None


def read_run_state(state: Mapping[str, Any], folder: Path) -> RunState:
    """The state in a checkpoint. Raises CheckpointError naming what is wrong with it."""
    try:
        return RunState.model_validate(state)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{folder / 'state.json'}: {where}: {first['msg']}") from None


def settings_of(state: RunState, folder: Path) -> RunSettings:
    """The settings of the run at that checkpoint. Raises CheckpointError when this version does not know them."""
    try:
        return RunSettings.model_validate_json(json.dumps(state.settings))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{folder / 'state.json'}: settings.{where}: {first['msg']}") from None
