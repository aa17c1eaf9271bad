"""Which policy a checkpoint needs. A new model family adds one line to ``POLICIES``."""

from __future__ import annotations

import importlib
from importlib import resources
from pathlib import Path

import torch

from pairuni.io.hub import TEXT_FILES, WEIGHT_FILES, model_folder
from pairuni.policies.files import read_json, reason
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.relatives import refusal, relative_by_config, relative_by_name
from pairuni.policies.threads import fit_threads

POLICIES = {
    "janus": "pairuni.policies.janus.policy:load_janus",
    "multi_modality": "pairuni.policies.janus.policy:load_janus",
}
"""model_type -> "module:function" of (folder, *, name, device, dtype), imported when needed; on the device "meta" the
policy is wanted without its weights."""

SHIPPED = {"tiny": "tiny-janus"}
"""Policies inside the package: name -> folder under ``pairuni/assets``."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_FILES = (*TEXT_FILES, *WEIGHT_FILES, "pytorch_model*.bin")


def load_policy(
    name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto", weights: bool = True
) -> UnifiedPolicy:
    """Load a policy from a folder, from the hub, or "tiny", the one shipped in the package.

    device "auto" is CUDA where there is one; dtype "auto" is bfloat16 on CUDA where it has it, else float32.
    weights: without them the policy knows its texts and its sizes, on the device "meta", and only its configuration
    and tokenizer are needed. Raises ValueError with one sentence when the checkpoint is missing, incomplete or of an
    unknown kind.
    """
    folder = resolve(name_or_path, weights=weights)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a checkpoint.")
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ValueError(f"{folder / 'config.json'} names no model_type; restore the file.")
    if relative := relative_by_config(config):
        raise ValueError(refusal(folder / "config.json", relative))
    if model_type not in POLICIES:
        raise ValueError(
            f"{folder / 'config.json'} has the model_type {model_type!r}; supported: {', '.join(POLICIES)}."
        )
    module, _, attribute = POLICIES[model_type].partition(":")
    chosen, precision = device_and_dtype(device, dtype)
    if weights:
        check_device(chosen)
    else:
        chosen = torch.device("meta")
    load = getattr(importlib.import_module(module), attribute)
    policy: UnifiedPolicy = load(folder, name=str(name_or_path), device=chosen, dtype=precision)
    fit_threads(policy.module)
    return policy


def device_and_dtype(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """What the names that ``load_policy`` takes stand for here. Raises ValueError for an unknown one."""
    chosen = _device(device)
    return chosen, _dtype(dtype, chosen)


def check_device(device: torch.device) -> None:
    """Raise ValueError where this machine, or this build of torch, has no such device."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"The device {str(device)!r} was asked for, but torch sees no CUDA here; choose auto or cpu."
        )
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The device {str(device)!r} cannot be used here ({reason(error)}); choose auto, cpu, cuda or cuda:N."
        ) from error


def resolve(name_or_path: str | Path, *, weights: bool = True) -> Path:
    """The folder of a policy: shipped, local, or downloaded from the hub, with or without its weights."""
    if name_or_path in SHIPPED:
        folder = Path(str(resources.files("pairuni") / "assets" / SHIPPED[str(name_or_path)]))
        if not folder.is_dir():
            raise ValueError(
                f"This installation lacks the shipped policy {name_or_path!r}; install pairuni again."
            )
        return folder
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return folder
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ValueError(
            f"There is no folder {name_or_path}; give a checkpoint folder, a hub name or 'tiny'."
        )
    if relative := relative_by_name(name):
        raise ValueError(refusal(name, relative))
    return model_folder(name, files=_HUB_FILES if weights else TEXT_FILES, kind="checkpoint")


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"The device {device!r} is unknown; choose auto, cpu, cuda or cuda:N.") from error


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if dtype not in _DTYPES:
        raise ValueError(f"The dtype {dtype!r} is unknown; choose auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]
