"""The state of a run in a checkpoint, without tensors, and the comparison by a resume."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pairuni.config import PolicySettings, RunSettings
from pairuni.policies.registry import SHIPPED
from pairuni.records import UGPair
from pairuni.runs.best import run_of_best
from pairuni.runs.folder import RunFolder
from pairuni.runs.history import settings_changes, shown
from pairuni.training.checkpoint import CheckpointError, list_checkpoints, load_state

_MOST = 2**53
Read = TypeVar("Read", bound=BaseModel)


class RunState(BaseModel):
    """The state of a run at a checkpoint.

    steps: those of the complete run; None in checkpoints of earlier versions. The digests are SHA-256: of the pairs as
    trained on, of the images of their questions, and of all weights as loaded. places: absolute paths of the model and
    the adapter that the run began with, by their setting, of those in a folder. unlogged: the last step's line of
    metrics, if it could not be written.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    num_tokens: int = Field(ge=0, le=_MOST)
    seed: int = Field(ge=0)
    pairs_per_update: int = Field(ge=1, le=_MOST)
    steps: int | None = Field(default=None, ge=1, le=_MOST)
    pairs_sha256: str
    pictures_sha256: str
    policy_sha256: str
    dtype: str = Field(pattern="^(float32|bfloat16|float16|float64)$")
    places: dict[str, str] = Field(default={})
    settings: dict[str, Any]
    unlogged: dict[str, Any] | None = None


def read_run_state(state: Mapping[str, Any], folder: Path) -> RunState:
    """The state of a checkpoint. Raises CheckpointError naming the field that is wrong."""
    try:
        return RunState.model_validate(state)
    except ValidationError as error:
        raise _wrong_state(folder, error) from None


def settings_of(state: RunState, folder: Path) -> RunSettings:
    """The settings at that checkpoint. Raises CheckpointError if this version does not accept them."""
    try:
        return RunSettings.model_validate_json(json.dumps(state.settings))
    except ValidationError as error:
        raise _wrong_state(folder, error, "settings.") from None


def places_of(policy: PolicySettings) -> dict[str, str]:
    """The absolute paths of what these settings name and is in a folder, by setting: ``RunState.places``."""
    found = {}
    if policy.model not in SHIPPED and _is_folder(policy.model):
        found["policy.model"] = _absolute(policy.model)
    if policy.lora is not None and policy.lora.adapter is not None:
        found["policy.lora.adapter"] = _absolute(str(policy.lora.adapter))
    return found


def policy_of(state: RunState, folder: Path) -> PolicySettings:
    """The settings of the policy at that checkpoint, with the paths of ``places`` where these are still folders.

    A relative path means another folder in another working directory. Raises as ``settings_of`` does.
    """
    policy = settings_of(state, folder).policy
    places = {key: path for key, path in state.places.items() if _is_folder(path)}
    if (adapter := places.get("policy.lora.adapter")) is not None and policy.lora is not None:
        lora = policy.lora.model_copy(update={"adapter": Path(adapter)})
        policy = policy.model_copy(update={"lora": lora})
    return policy.model_copy(update={"model": places.get("policy.model", policy.model)})


def _is_folder(name: str) -> bool:
    """Whether this is a folder, or RUN@best of one."""
    return (run_of_best(name) or Path(name).expanduser()).is_dir()


def _absolute(name: str) -> str:
    return os.path.abspath(Path(name).expanduser())


def digest_of_pairs(pairs: Sequence[UGPair]) -> str:
    """SHA-256 of the pairs in their order."""
    content = "\n".join(pair.model_dump_json() for pair in pairs)
    return hashlib.sha256(content.encode()).hexdigest()


def check_settings(run: RunFolder, settings: RunSettings) -> None:
    """Compare settings with the newest checkpoint, without loading data or weights.

    Raises ValueError as ``check_same_run`` does; a damaged checkpoint is left to the trainer.
    """
    for folder in reversed(list_checkpoints(run.checkpoints)):
        try:
            step, state = load_state(folder)
            saved = read_run_state(state, folder)
        except CheckpointError:
            continue
        _check_same_settings(run, saved, settings)
        if settings.pairgrpo.epochs is None:
            _check_not_beyond(run, step, settings.pairgrpo.steps, settings)
        return


def check_same_run(run: RunFolder, step: int, saved: RunState, now: RunState) -> None:
    """Raise ValueError naming the first thing that makes ``now`` another run than the saved one."""
    settings = RunSettings.model_validate(now.settings)
    _check_same_settings(run, saved, settings)
    if saved.pairs_sha256 != now.pairs_sha256:
        changes = [
            f"{key} was {shown(was)}, is {shown(new)}"
            for key, (was, new) in settings_changes(saved.settings, now.settings).items()
            if key.startswith(("data.", "evaluation."))
        ]
        reason = f" ({'; '.join(changes)})" if changes else ": the content of the pair file has changed"
        raise _cannot_resume(run, f"the pairs differ from those of its checkpoint{reason}")
    if saved.pictures_sha256 != now.pictures_sha256:
        raise _cannot_resume(run, "the images next to the pair file differ from those of its checkpoint")
    if saved.dtype != now.dtype:
        raise _cannot_resume(
            run,
            f"its weights have the type {saved.dtype}, those of this policy {now.dtype}; "
            f"resume with --policy.dtype {saved.dtype}",
        )
    if saved.policy_sha256 != now.policy_sha256:
        was, new = (state.settings["policy"]["model"] for state in (saved, now))
        reason = f"{new} instead of {was}" if was != new else f"the weights of {new} have changed"
        raise _cannot_resume(run, f"it trains another policy than this one ({reason})")
    assert now.steps is not None, "only earlier versions leave it out"
    _check_not_beyond(run, step, now.steps, settings)


def _check_same_settings(run: RunFolder, saved: RunState, settings: RunSettings) -> None:
    grpo = settings.pairgrpo
    if saved.seed != settings.seed:
        raise _cannot_resume(run, f"the seed of its checkpoint is {saved.seed}, not {settings.seed}")
    pairs = grpo.pairs_per_batch * grpo.batches_per_step
    if saved.pairs_per_update != pairs:
        raise _cannot_resume(
            run,
            f"its checkpoint was made with {saved.pairs_per_update} pairs per step, not {pairs} "
            "(pairs_per_batch times batches_per_step)",
        )
    tasks = saved.settings.get("pairgrpo", {}).get("tasks", "joint")
    if tasks != grpo.tasks:
        raise _cannot_resume(
            run, f"pairgrpo.tasks was {tasks}, is {grpo.tasks}; the pairs of a step depend on it"
        )
    trainable = saved.settings.get("policy", {}).get("trainable")
    if sorted(trainable or []) != sorted(settings.policy.trainable):
        raise _cannot_resume(
            run, f"policy.trainable was {shown(trainable)}, is {shown(settings.policy.trainable)}"
        )
    was, now = (_adapter_shape(one) for one in (saved.settings, settings.model_dump(mode="json")))
    for key in now | was:
        if was.get(key) != now.get(key):
            raise _cannot_resume(run, f"{key} was {shown(was.get(key))}, is {shown(now.get(key))}")


def _adapter_shape(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide which adapters there are and how they scale; none without adapters."""
    lora = settings.get("policy", {}).get("lora")
    if not isinstance(lora, Mapping):
        return {}
    shape = {key: value for key, value in lora.items() if key != "adapter"}
    if "targets" in shape:
        shape["targets"] = sorted(shape["targets"])
    return {f"policy.lora.{key}": value for key, value in shape.items()}


def _check_not_beyond(run: RunFolder, step: int, steps: int, settings: RunSettings) -> None:
    if step > steps:
        epochs = settings.pairgrpo.epochs
        end = (
            f"pairgrpo.steps = {steps}" if epochs is None else f"the {steps} of pairgrpo.epochs = {epochs:g}"
        )
        raise _cannot_resume(
            run,
            f"it is already at step {step}, beyond {end}; "
            "pairuni export makes a model of an earlier checkpoint if one is kept",
        )


def _cannot_resume(run: RunFolder, reason: str) -> ValueError:
    return ValueError(f"cannot resume in {run.root}: {reason}")


def _wrong_state(folder: Path, error: ValidationError, prefix: str = "") -> CheckpointError:
    first = error.errors(include_url=False)[0]
    field = prefix + ".".join(map(str, first["loc"]))
    return CheckpointError(f"{folder / 'state.json'}: {field}: {first['msg']}")
