"""The tensors of a checkpoint folder, read without running code and checked before use."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import logging as transformers_logging

from pairuni.policies.files import read_json, reason

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Weight files in order of preference; each may be sharded, with an index."""


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder, on the CPU: safetensors, or PyTorch files without pickled code.

    Raises ValueError naming the file that is missing, damaged, or holds NaN or infinity.
    """
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            files = _shards(index, Path(name).suffix)
            missing = [file for file in files if not (folder / file).is_file()]
            if missing or not files:
                raise ValueError(
                    f"{folder} lacks the weight files {missing} of {index.name}; download them again."
                )
            return {key: tensor for file in files for key, tensor in read_file(folder / file).items()}
        if (folder / name).is_file():
            return read_file(folder / name)
    raise ValueError(f"{folder} has no weights ({' or '.join(WEIGHTS)}); download them.")


def _shards(index: Path, suffix: str) -> list[str]:
    """The files in an index. Raises ValueError unless they have this suffix and lie in the same folder."""
    places: Any = read_json(index).get("weight_map", {})
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ValueError(f"{index} does not map tensors to files; restore the file.")
    files = sorted(set(places.values()))
    if any(Path(file).name != file or "\\" in file or "\0" in file for file in files):
        raise ValueError(f"{index} names weights outside its folder; restore the file.")
    if any(Path(file).suffix != suffix for file in files):
        raise ValueError(f"{index} names files that are not {suffix} weights; restore the file.")
    return files


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. Raises ValueError for a damaged file and for NaN or infinity."""
    try:
        if path.suffix == ".safetensors":
            content: Any = dict(load_file(path))
        else:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged files raise many kinds of errors
        raise ValueError(
            f"{path} cannot be read as plain tensors ({reason(error)}); download it again."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} is not a table of tensors; give the released checkpoint.")
    broken = [name for name, tensor in content.items() if not is_finite(tensor)]
    if broken:
        raise ValueError(
            f"{path} contains NaN or infinite weights ({few(broken)}); use an earlier checkpoint."
        )
    return content


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity; integer tensors never do."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() == 1:  # few operations support 8-bit floats
        tensor = tensor.float()
    return bool(torch.isfinite(torch.stack(tensor.aminmax())).all())


def check_tensors(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: Path, *, tied: Collection[str] = ()
) -> None:
    """Raise ValueError naming the first few tensors that are missing, unexpected, or of another shape or type.

    expected: the model's own tensors, usually on the device "meta". tied: names that need not be stored.
    """
    shapes = {name: tensor.shape for name, tensor in expected.items() if name not in tied}
    shared = [name for name in shapes if name in found]
    problems = []
    for kind, names in (
        ("missing", [name for name in shapes if name not in found]),
        ("unexpected", [name for name in found if name not in shapes]),
        (
            "different in shape from config.json",
            [name for name in shared if found[name].shape != shapes[name]],
        ),
        ("not floating-point numbers", [name for name in shared if not found[name].is_floating_point()]),
    ):
        if names:
            problems.append(f"{len(names)} tensors are {kind} ({few(names)})")
    if problems:
        raise ValueError(f"The weights in {source} do not fit their config.json: {'; '.join(problems)}.")


def few(names: list[str]) -> str:
    """The first three of many names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Hide the progress bar that ``transformers`` shows while it handles weights that are in memory."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
