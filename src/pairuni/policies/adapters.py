"""Low-rank adapters (LoRA) through ``peft``, in the module tree of the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pairuni.config import LoRASettings
from pairuni.policies.files import read_json, reason

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""Files of an adapter's folder, as ``peft`` names them."""

_SHAPE = (
    *("r", "lora_alpha", "target_modules", "bias", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("fan_in_fan_out", "layers_to_transform", "layers_pattern", "exclude_modules"),
)
"""Keys of adapter_config.json that decide where adapters are and how they scale."""

_ADAPTER = "default"
_PREFIX = "base_model.model."
"""Before the names of tensors in an adapter's file: the attributes of a ``PeftModel``."""


def inject_lora(module: nn.Module, config: Mapping[str, Any], *, seed: int = 0) -> None:
    """Add adapters in float32 or finer to a module; they change nothing until they train.

    config: arguments of ``peft.LoraConfig``. Raises ImportError without ``peft``, ValueError if it refuses.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("adapters need peft: pip install 'pairuni[lora]'") from error
    try:
        inject_adapter_in_model(LoraConfig(**config), module)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"the adapter does not fit the model: {reason(error)}") from error
    # drawn on the CPU from a seed of its own: the same on every rank and device
    generator = torch.Generator().manual_seed(seed % 2**64)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if is_adapter(name):
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
            if ".lora_A." in name:
                drawn = nn.init.kaiming_uniform_(
                    torch.empty(parameter.shape), a=math.sqrt(5), generator=generator
                )
                parameter.copy_(drawn)


def lora_config(settings: LoRASettings, targets: str) -> dict[str, Any]:
    """Arguments of ``peft.LoraConfig``; targets: a pattern of module names."""
    return {
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "target_modules": targets,
        "lora_dropout": 0.0,
        "bias": "none",
    }


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def plain_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """The parameters of the model without adapters: name, module that holds it, and its current merged value."""
    adapted = ""
    for path, part in module.named_modules():
        if adapted and path.startswith(adapted):
            continue
        dot = f"{path}." if path else ""
        if hasattr(part, "lora_A"):
            adapted = dot
            yield f"{dot}weight", part, _merged(part)
            if part.base_layer.bias is not None:
                yield f"{dot}bias", part, _value(part.base_layer, "bias")
            continue
        for name, _ in part.named_parameters(recurse=False):
            yield dot + name, part, _value(part, name)


def base_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of the model without adapters, by their names there; adapters are left out."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if not is_adapter(name):
            yield name.replace(".base_layer.", "."), parameter


def _value(part: nn.Module, name: str) -> Callable[[], Tensor]:
    # looked up at every call: FSDP2 exchanges the parameters of a module
    return lambda: getattr(part, name)


def _merged(layer: Any) -> Callable[[], Tensor]:
    def merged() -> Tensor:
        delta: Tensor = layer.get_delta_weight(_ADAPTER)
        return layer.base_layer.weight.to(delta) + delta

    return merged


def save_adapter(
    weights: Mapping[str, Tensor], folder: Path, config: Mapping[str, Any], *, base: str, parts: Sequence[str]
) -> None:
    """Write an adapter's two files, for ``peft.PeftModel.from_pretrained``.

    weights: what trained, by name. parts: submodules of the model; those that trained without adapter are stored too.
    """
    from peft import LoraConfig

    whole = [part for part in parts if any(n.startswith(f"{part}.") for n in weights if not is_adapter(n))]
    tensors = {_PREFIX + name.replace(f".{_ADAPTER}.", "."): value for name, value in weights.items()}
    stored = LoraConfig(
        **config,
        base_model_name_or_path=base,
        modules_to_save=whole or None,
        inference_mode=True,
    )
    stored.save_pretrained(str(folder))
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, folder / WEIGHTS, metadata={"format": "pt"})


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of ``peft.LoraConfig``, and tensors by their names in the module.

    Raises ValueError for a folder without an adapter, for a damaged one, and for one that is not LoRA.
    """
    if not is_adapter_folder(folder):
        raise ValueError(f"{folder} has no {CONFIG}; give an adapter's folder, such as the final/ of a run")
    content = read_json(folder / CONFIG)
    kind = content.get("peft_type")
    if kind != "LORA" or content.get("use_dora"):
        raise ValueError(f"{folder / CONFIG} describes an adapter of type {kind!r}; only LoRA is supported")
    try:
        stored = load_file(folder / WEIGHTS)
    except Exception as error:  # damaged files raise many kinds of errors
        raise ValueError(f"{folder / WEIGHTS} cannot be read ({reason(error)}); restore the file") from error
    tensors = {}
    for name, tensor in stored.items():
        if not name.startswith(_PREFIX) or not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"{folder / WEIGHTS}: {name} is not a tensor of a sound adapter")
        plain = name.removeprefix(_PREFIX)
        for kind in ("lora_A", "lora_B"):
            plain = plain.replace(f".{kind}.", f".{kind}.{_ADAPTER}.")
        tensors[plain] = tensor
    config = {key: content[key] for key in _SHAPE if content.get(key) is not None}
    if config.get("bias", "none") != "none":
        raise ValueError(f"{folder / CONFIG}: adapters with trained biases are not supported")
    return config, tensors


def is_adapter_folder(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def base_of(folder: Path) -> str:
    """The base model that an adapter names. Raises ValueError if it names none."""
    base = read_json(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{folder / CONFIG} names no base model; give it")
    return base


@torch.no_grad()
def load_adapter_tensors(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Copy an adapter's tensors into a module with the same adapters. Raises ValueError if they do not fit."""
    parameters = dict(module.named_parameters())
    missing = [name for name in parameters if is_adapter(name) and name not in tensors]
    unknown = [name for name in tensors if name not in parameters]
    odd = [n for n, t in tensors.items() if n in parameters and t.shape != parameters[n].shape]
    if missing or unknown or odd:
        first = (missing + unknown + odd)[0]
        raise ValueError(f"{folder} does not fit the model and its settings of the adapter, first in {first}")
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)
