"""Versions and devices, for bug reports."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "pairuni",
    "torch",
    "transformers",
    "safetensors",
    "numpy",
    "pillow",
    "pydantic",
    "scikit-learn",
    "pyarrow",
)


def describe() -> dict[str, str]:
    """name -> version or description of everything that a bug report needs."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    found["CPU cores"] = str(os.cpu_count())
    found |= _devices()
    return found


def _devices() -> dict[str, str]:
    import torch

    if not torch.cuda.is_available():
        cuda = torch.version.cuda
        return {"GPU": f"none that torch can use ({f'built for CUDA {cuda}' if cuda else 'a CPU build'})"}
    named = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "CUDA": str(torch.version.cuda),
        "GPU": ", ".join(f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in named),
    }
