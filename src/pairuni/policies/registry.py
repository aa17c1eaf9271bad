"""Loading a policy by the model_type of its checkpoint. A new model family adds lines to the tables below."""

from __future__ import annotations

import importlib
from importlib import resources
from pathlib import Path

import torch

from pairuni.config import PolicySettings
from pairuni.devices import check_device, fit_threads, resolve_device, resolve_dtype
from pairuni.io.hub import TEXT_FILES, WEIGHT_FILES, model_folder
from pairuni.policies.files import read_json
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.unsupported import refusal, unsupported_by_config, unsupported_by_name

POLICIES = {
    "janus": "pairuni.policies.janus.policy:load_janus",
    "multi_modality": "pairuni.policies.janus.policy:load_janus",
    "llada": "pairuni.policies.lumina_dimoo.policy:load_lumina_dimoo",
    "emu3": "pairuni.policies.emu3.policy:load_emu3",
}
"""model_type -> "module:function", imported when needed and called with (folder, *, name, device, dtype, settings). On
the device "meta" it returns the policy without weights."""

TYPES = {"janus": "janus", "multi_modality": "janus", "llada": "lumina_dimoo", "emu3": "emu3"}
"""model_type -> ``policy.type``, where a family has settings of its own."""

INSIDE = {"lumina_dimoo": "llada"}
"""Key of a config.json that holds that of another layout -> the model_type there. The file itself describes a module of
``transformers`` that other models use too, such as a Llama."""

SHIPPED = {"tiny": "tiny-janus", "tiny-lumina": "tiny-lumina"}
"""Policies inside the package: name -> folder under ``pairuni/assets``."""

_HUB_FILES = (*TEXT_FILES, *WEIGHT_FILES, "pytorch_model*.bin", "adapter_model.safetensors")
_SUBFOLDERS = {"llada": "vqvae", "llama": "vqvae"}
"""model_type -> a subfolder of the hub repository that belongs to the checkpoint."""


def load_policy(
    name_or_path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    weights: bool = True,
    settings: PolicySettings | None = None,
) -> UnifiedPolicy:
    """Load a policy from a folder, from the hub, or one shipped in the package, "tiny" or "tiny-lumina".

    name_or_path: "tiny", a folder, or a hub name such as deepseek-community/Janus-Pro-1B. device: auto, cpu, cuda or
    cuda:N. dtype: float32, bfloat16, or auto, which is bfloat16 if the device supports it. weights: False gives a
    policy on the device "meta" that can check prompts and count parameters; it needs only configuration and tokenizer.
    settings: those of a run, of which the family reads its own.

    Raises ValueError when the checkpoint is missing, incomplete, of an unknown kind, or of
    another family than the settings.
    """
    folder = resolve(name_or_path, weights=weights)
    model_type = checkpoint_type(folder)
    if settings is not None and settings.type != TYPES.get(model_type, settings.type):
        raise ValueError(
            f"{name_or_path} is a model of policy.type {TYPES[model_type]}, but policy.type is {settings.type}; set it "
            f"to {TYPES[model_type]}."
        )
    module, _, attribute = POLICIES[model_type].partition(":")
    chosen = resolve_device(device)
    precision = resolve_dtype(dtype, chosen)
    chosen = check_device(chosen) if weights else torch.device("meta")
    load = getattr(importlib.import_module(module), attribute)
    policy: UnifiedPolicy = load(
        folder, name=str(name_or_path), device=chosen, dtype=precision, settings=settings
    )
    fit_threads(policy.module)
    return policy


def checkpoint_type(folder: Path) -> str:
    """The model_type of a checkpoint, one of ``POLICIES``, in whichever layout it is.

    Raises ValueError for a folder without a known one.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json; give the folder of a checkpoint.")
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise ValueError(f"{folder / 'config.json'} has no model_type; restore the file.")
    for key, inside in INSIDE.items():
        if isinstance(config.get(key), dict):
            return inside
    if unsupported := unsupported_by_config(config):
        raise ValueError(refusal(folder / "config.json", unsupported))
    if model_type not in POLICIES:
        raise ValueError(
            f"{folder / 'config.json'} has the model_type {model_type!r}; supported: {', '.join(POLICIES)}."
        )
    return model_type


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
            f"There is no folder {name_or_path}; give a checkpoint folder, a hub name, 'tiny' or "
            "'tiny-lumina'."
        )
    if unsupported := unsupported_by_name(name):
        raise ValueError(refusal(name, unsupported))
    folder = model_folder(name, files=_HUB_FILES if weights else TEXT_FILES, kind="checkpoint")
    config = folder / "config.json"
    if config.is_file() and (subfolder := _SUBFOLDERS.get(str(read_json(config).get("model_type")))):
        files = (*TEXT_FILES, *(("*.safetensors",) if weights else ()))
        model_folder(name, files=files, subfolder=subfolder, kind="checkpoint")
    return folder
