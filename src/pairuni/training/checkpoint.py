"""Checkpoint folders, written atomically: tensors as safetensors, the rest as JSON. No pickles.

SHA256SUMS, in the format of ``sha256sum``, lists every other file of the folder, so that a single changed byte is
detected before anything is used.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pairuni.io.files import atomic_folder, remove_folder

logger = logging.getLogger("pairuni")

_FOLDER = re.compile(r"step-(\d{6,12})")
_STATE = "state.json"
_SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  ([\w-][\w.-]*)")
_GROUP = re.compile(r"[\w-]+")
_TENSORS = ".safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; earlier checkpoints are untouched."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """tensors: groups of named tensors, one safetensors file each; state: values that JSON can hold."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def list_checkpoints(root: Path) -> list[Path]:
    """Checkpoints under ``root``, oldest first; damage is detected when they are loaded."""
    found = [p for p in root.glob("step-*") if _FOLDER.fullmatch(p.name) and (p / _STATE).is_file()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(folder.name.removeprefix("step-"))


def save_checkpoint(root: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write ``root/step-<step>``, then delete all but the newest ``keep`` checkpoints.

    Raises CheckpointError if the disk is full or not writable; no incomplete checkpoint remains.
    """

    def write(folder: Path) -> None:
        for name, tensors in checkpoint.tensors.items():
            plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(plain, folder / f"{name}{_TENSORS}")
        content = {**checkpoint.state, "step": checkpoint.step, "tensors": sorted(checkpoint.tensors)}
        (folder / _STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        sums = _sums_of(folder, sorted(path.name for path in folder.iterdir()))
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
        (folder / _SUMS).write_text(lines, encoding="utf-8")

    target = root / f"step-{checkpoint.step:06d}"
    write_folder(target, write)
    keep_newest(root, keep)
    return target


def keep_newest(root: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints."""
    for old in list_checkpoints(root)[:-keep]:
        remove_folder(old)


def load_state(folder: Path) -> tuple[int, Mapping[str, Any]]:
    """Step and state of a checkpoint, without its tensors; only the checksum of the state is compared.

    Raises CheckpointError naming the damaged file.
    """
    sums = _read_sums(folder)
    _compare(folder, {name: sums[name] for name in (_STATE,)})
    step, _, state = _read_state(folder)
    return step, state


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a folder that ``save_checkpoint`` wrote and compare every file with its checksum.

    Raises CheckpointError naming the damaged file.
    """
    sums = _read_sums(folder)
    _compare(folder, sums)
    step, names, state = _read_state(folder)
    tensors = {}
    for name in names:
        file = folder / f"{name}{_TENSORS}"
        if file.name not in sums:
            raise CheckpointError(f"{folder / _SUMS} does not list {file.name}")
        try:
            tensors[name] = load_file(file)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    return Checkpoint(step=step, tensors=tensors, state=state)


def load_newest(root: Path, *, use: Callable[[Checkpoint], None] | None = None) -> Checkpoint | None:
    """The newest undamaged checkpoint under ``root``; None if there is no checkpoint.

    use: called with it; may raise CheckpointError too. A warning names each damaged checkpoint, and the one before it
    is tried. Raises CheckpointError if all are damaged.
    """
    faults = []
    for folder in reversed(list_checkpoints(root)):
        try:
            checkpoint = load_checkpoint(folder)
            if use is not None:
                use(checkpoint)
        except CheckpointError as error:
            faults.append(f"{error}")
            logger.warning("%s is damaged (%s); trying the one before it", folder, error)
            continue
        return checkpoint
    if not faults:
        faults = [f"{folder} has no {_STATE}" for folder in sorted(root.glob("step-*"))[-1:]]
    if faults:
        raise CheckpointError(f"every checkpoint in {root} is damaged; the newest: {faults[0]}")
    return None


def rename_newer(root: Path, step: int) -> None:
    """Rename checkpoints of later steps to damaged-*, so that a run resumed at ``step`` ignores them."""
    for folder in list_checkpoints(root):
        if step_of(folder) > step:
            damaged = folder.with_name(f"damaged-{folder.name}")
            if damaged.exists():
                remove_folder(damaged)
            folder.rename(damaged)
            logger.warning("%s is kept as %s", folder.name, damaged)


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder atomically: ``write`` fills a temporary one, which then replaces ``target``.

    Raises CheckpointError if the disk is full or not writable.
    """
    try:
        with atomic_folder(target) as partial:
            write(partial)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_reason(target, error)) from error


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / _SUMS
    try:
        lines = path.read_bytes().decode("ascii").split("\n")
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing, so the checkpoint cannot be verified; earlier versions did not write it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    found = [_SUM.fullmatch(line) for line in lines[:-1]]
    sums = {match[2]: match[1] for match in found if match}
    if lines[-1] or not all(found) or len(sums) != len(found) or _STATE not in sums:
        raise CheckpointError(f"{path} is damaged")
    return sums


def _compare(folder: Path, sums: Mapping[str, str]) -> None:
    try:
        found = _sums_of(folder, list(sums))
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error
    for name, wanted in sums.items():
        if found[name] != wanted:
            raise CheckpointError(f"{folder / name} is damaged: its checksum differs")


def _sums_of(folder: Path, names: list[str]) -> dict[str, str]:
    """SHA-256 of files, several at once, because hashing takes as long as reading."""

    def digest(name: str) -> str:
        with (folder / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(names, pool.map(digest, names), strict=True))


def _read_state(folder: Path) -> tuple[int, list[str], dict[str, Any]]:
    path = folder / _STATE
    try:
        state = json.loads(path.read_bytes())
        step, names = state.pop("step"), state.pop("tensors")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's state: {error}") from error
    plain = isinstance(names, list) and all(
        isinstance(name, str) and _GROUP.fullmatch(name) for name in names
    )
    if type(step) is not int or not plain or (_FOLDER.fullmatch(folder.name) and step != step_of(folder)):
        raise CheckpointError(f"{path} is not the state of this checkpoint")
    return step, names, state


def _reason(target: Path, error: OSError | SafetensorError) -> str:
    # safetensors puts the operating system's error into its own message
    full = f"os error {errno.ENOSPC}" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
    if full:
        return (
            f"cannot write {target}: the disk is full; free some space, then resume from the last checkpoint"
        )
    return f"cannot write {target}: {error}"
