"""Checkpoint folders, written atomically: tensors as safetensors, the rest as JSON. No pickles.

SHA256SUMS, in the format of ``sha256sum``, lists every other file of the folder, so that a single changed byte is
detected before anything is used. Several processes may write and read one checkpoint: ``shards`` has its files.
"""

from __future__ import annotations

import errno
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from pairuni.io.files import atomic_folder, digest_of_file, flush_to_disk, remove_folder
from pairuni.training.ranks import ONE_RANK, Ranks, agree
from pairuni.training.shards import Group, SavedTensors, files_of

logger = logging.getLogger("pairuni")

_FOLDER = re.compile(r"step-(\d{6,12})")
_STATE = "state.json"
_SUMS = "SHA256SUMS"
_SUM = re.compile(r"([0-9a-f]{64})  ([\w-][\w.-]*)")
_GROUP = re.compile(r"[\w-]+")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; earlier checkpoints are untouched."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """tensors: groups of named tensors, whole or DTensors sharded by rows; state: values that JSON can hold."""

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


def folder_of(root: Path, step: int) -> Path:
    """The folder of the checkpoint of ``step``."""
    return root / f"step-{step:06d}"


def write_tensors(
    folder: Path, groups: Mapping[str, Group], rank: int = 0, world_size: int = 1
) -> dict[str, str]:
    """Write what this rank holds of each group and flush it to disk; SHA-256 by file name."""
    files = [group.write(folder, name, rank, world_size) for name, group in groups.items()]
    written = [file for file in files if file is not None]
    for file in written:
        flush_to_disk(folder / file)
    return _sums_of(folder, written)


def write_state(folder: Path, checkpoint: Checkpoint, sums: Mapping[str, str]) -> None:
    """Complete a folder that holds all tensors, whose checksums are ``sums``, with state and checksums."""
    content = {**checkpoint.state, "step": checkpoint.step, "tensors": sorted(checkpoint.tensors)}
    (folder / _STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    complete = {**sums, **_sums_of(folder, [_STATE])}
    lines = "".join(f"{complete[name]}  {name}\n" for name in sorted(complete))
    (folder / _SUMS).write_text(lines, encoding="utf-8")


def delete_old(
    root: Path, *, keep: int, keep_best: int = 0, scores: Callable[[], Mapping[int, float]] = dict
) -> None:
    """Delete all but the newest ``keep`` checkpoints and, of the others, the ``keep_best`` with the best scores.

    scores: called if there is a choice; step -> score, higher is better, the later step of two equal ones. A
    checkpoint without a score is none of the best.
    """
    others = list_checkpoints(root)[:-keep]
    if others and keep_best:
        score = scores()
        scored = [folder for folder in others if step_of(folder) in score]
        best = sorted(scored, key=lambda folder: (score[step_of(folder)], step_of(folder)))[-keep_best:]
        others = [folder for folder in others if folder not in best]
    for old in others:
        remove_folder(old)


def load_state(folder: Path) -> tuple[int, Mapping[str, Any]]:
    """Step and state of a checkpoint, without its tensors; only the checksum of the state is compared.

    Raises CheckpointError naming the damaged file.
    """
    sums = _read_sums(folder)
    _compare(folder, {name: sums[name] for name in (_STATE,)})
    step, _, state = _read_state(folder)
    return step, state


def load_checkpoint(folder: Path, *, ranks: Ranks = ONE_RANK) -> Checkpoint:
    """Open a checkpoint, whatever number of processes wrote it, and compare every file with its checksum.

    Its tensors are whole and are read when they are used (``shards.SavedTensors``). Several ranks share the files to
    compare. Raises CheckpointError naming the damaged file, on all ranks.
    """

    def compare() -> None:
        sums = _read_sums(folder)
        _compare(folder, {name: sums[name] for name in sorted(sums)[ranks.rank :: ranks.world_size]})

    def read() -> Checkpoint:
        sums = _read_sums(folder)
        step, names, state = _read_state(folder)
        return Checkpoint(step=step, tensors={name: _open(folder, name, sums) for name in names}, state=state)

    agree(ranks, compare, CheckpointError)
    return agree(ranks, read, CheckpointError)


def load_newest(
    root: Path, *, use: Callable[[Checkpoint], None] | None = None, ranks: Ranks = ONE_RANK
) -> Checkpoint | None:
    """The newest undamaged checkpoint under ``root``, the same on all ranks; None if there is no checkpoint.

    use: called with it; may raise CheckpointError too. A warning names each damaged checkpoint, and the one before it
    is tried. Raises CheckpointError if all are damaged, or if a rank does not see the folder.
    """
    faults = []
    folders: list[Path] = ranks.gather(list_checkpoints(root))[0]
    if folders:
        agree(ranks, lambda: check_visible(root), CheckpointError)
    for folder in reversed(folders):
        try:
            checkpoint = load_checkpoint(folder, ranks=ranks)
            if use is not None:
                agree(ranks, partial(use, checkpoint), CheckpointError)
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
    with one_sentence(target), atomic_folder(target) as folder:
        write(folder)


@contextmanager
def one_sentence(target: Path) -> Iterator[None]:
    """Turn errors of writing ``target`` into CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_reason(target, error)) from error


def check_visible(folder: Path) -> None:
    """Raise CheckpointError if this process does not see a folder that another one made."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not there; put the folder of a run on a file system that all machines share"
        )


def _open(folder: Path, name: str, sums: Mapping[str, str]) -> SavedTensors:
    """A group of tensors, from files that ``sums`` lists."""
    try:
        return SavedTensors([folder / file for file in files_of(name, list(sums))])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"the tensors {name!r} of {folder} cannot be read: {error}") from error


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

    with ThreadPoolExecutor(4) as pool:
        digests = pool.map(lambda name: digest_of_file(folder / name), names)
        return dict(zip(names, digests, strict=True))


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
    full = any(
        f"os error {code})" in str(error) or getattr(error, "errno", None) == code
        for code in (errno.ENOSPC, errno.EDQUOT)
    )
    if full:
        return (
            f"cannot write {target}: the disk is full; free some space, then resume from the last checkpoint"
        )
    return f"cannot write {target}: {error}"
