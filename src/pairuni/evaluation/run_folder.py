"""The folder of a benchmark run: resumable, and shared by several processes.

run.json describes the run; records-<rank>.jsonl holds what each process finished, by item. The same command in the
same folder resumes it. Processes communicate through the folder alone; each takes every ``world_size``-th batch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pairuni.console.progress import Progress
from pairuni.distributed.shares import Share
from pairuni.evaluation.journal import Journal, read_journal
from pairuni.io.files import write_text
from pairuni.io.locks import exclusive_lock
from pairuni.io.text import read_json
from pairuni.training.interrupt import StopRequest

logger = logging.getLogger("pairuni")

T = TypeVar("T")


@dataclass
class Run:
    """A run's folder as one process sees it.

    own: this process's journal. recorded: what other processes had recorded at the start. lost: recorded keys whose
    images no longer exist.
    """

    own: Journal
    share: Share
    recorded: Mapping[str, Any]
    lost: set[str] = field(default_factory=set)

    def __contains__(self, key: str) -> bool:
        return key not in self.lost and (key in self.own or key in self.recorded)

    def add(self, values: Mapping[str, Any]) -> None:
        """Record finished items; a lost image already has its record."""
        self.own.add({key: value for key, value in values.items() if key not in self.lost})
        self.lost -= values.keys()


def run_lock_path(folder: Path) -> Path:
    """The lock under which processes write files of the folder that all of them share."""
    return folder / ".run.lock"


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of the run to run.json.

    Raises ValueError when the folder holds other files, or records of a run with other settings; the message names
    the differences.
    """
    wanted = json.loads(json.dumps(settings))
    described = folder / "run.json"
    if folder.is_dir() and not described.is_file():
        other = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if other:
            raise ValueError(f"{folder} contains other files, such as {other[0]}; give a new --out")
    with exclusive_lock(run_lock_path(folder)):
        if not described.is_file() or not any(path.stat().st_size for path in _journals(folder)):
            write_text(described, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")
            return
        found = read_json(described)
        if not isinstance(found, dict):
            raise ValueError(f"{described}: not the settings of a run; give a new --out")
        differ = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        if differ:
            shown = "; ".join(f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}" for name in differ)
            raise ValueError(f"{folder} contains another run ({shown}); give a new --out")


def own_journal(folder: Path, share: Share) -> Journal:
    """The journal of this process."""
    return Journal(folder / f"records-{share.rank}.jsonl")


def all_records(folder: Path) -> dict[str, Any]:
    """What all processes have recorded so far."""
    found: dict[str, Any] = {}
    for path in _journals(folder):
        found.update(read_journal(path))
    return found


def wait_for_records(folder: Path, keys: Sequence[str], *, every: float = 1.0) -> dict[str, Any]:
    """The records of all processes, once every key has one. every: seconds between two checks of the folder."""
    logged = False
    while True:
        found = all_records(folder)
        missing = sum(key not in found for key in keys)
        if missing == 0:
            return found
        if not logged:
            logger.info("waiting for other processes: %d items are not done", missing)
            logged = True
        time.sleep(every)


def process_batches(
    items: Sequence[T],
    run: Run,
    *,
    size: int,
    work: Callable[[Sequence[T], int], Mapping[str, Any]],
    key: Callable[[T], str],
    title: str,
) -> None:
    """Process this process's unrecorded items and record ``work(batch, index of its first item)``, by key.

    Batches are the same ones for any number of processes and after a resume. Raises KeyboardInterrupt after the
    current batch on Ctrl-C.
    """
    starts = range(run.share.rank * size, len(items), run.share.world_size * size)
    batches = {start: items[start : start + size] for start in starts}
    done = sum(key(item) in run for batch in batches.values() for item in batch)
    total = sum(len(batch) for batch in batches.values())
    if done == total:
        return
    if run.share.world_size > 1:
        title = f"{title}, process {run.share.rank + 1} of {run.share.world_size}"
    with StopRequest() as stop, Progress(title, total=total, start=done, unit="items") as progress:
        for start, batch in batches.items():
            missing = [key(item) for item in batch if key(item) not in run]
            if not missing:
                continue
            if stop.requested:
                raise KeyboardInterrupt
            values = work(batch, start)
            run.add({name: values[name] for name in missing})
            progress.advance(len(missing))


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("records-*.jsonl"))
