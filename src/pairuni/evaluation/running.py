"""A model run on a benchmark's items in batches: what is recorded is never run again.

The folder of a run holds run.json, what the run is; records-<rank>.jsonl, the replies and images by item; and what
a benchmark makes of them. The same command in the same folder goes on where it stopped. Several processes meet in
the folder alone: each has every ``world_size``-th batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from pairuni.devices import resolve_device, resolve_dtype
from pairuni.distributed.shares import Share
from pairuni.evaluation.journal import Journal, read_journal
from pairuni.evaluation.question_images import Picture, one_image
from pairuni.io.files import atomic_write, write_text
from pairuni.io.locks import exclusive_lock
from pairuni.io.text import read_json
from pairuni.policies.policy import ImageSampling, TextSampling, UnifiedPolicy
from pairuni.runs.models import load_model, resolve_model
from pairuni.training.interrupt import StopRequest
from pairuni.training.tracking import Progress

logger = logging.getLogger("pairuni")

T = TypeVar("T")

_SAMPLED_BYTES, _SAMPLES = 4096, 64
_WRITERS = 8


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model is run, and how. batch_size: replies or images that are made at once; the noise of an image
    depends on it. guidance None is the policy's own."""

    name: str
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 64
    seed: int = 0
    temperature: float = 1.0
    guidance: float | None = None

    @cached_property
    def policy(self) -> UnifiedPolicy:
        """Loaded when it is first asked for."""
        return load_model(self.name, device=self.device, dtype=self.dtype)

    def described(self) -> dict[str, Any]:
        """What replies and images depend on. ``weights`` changes when the checkpoint's files do: their sizes
        and 64 samples of each."""
        device = resolve_device(self.device)
        dtype = resolve_dtype(self.dtype, device)
        return {
            "model": self.name,
            "weights": _digest_of_weights(resolve_model(self.name)),
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "batch size": self.batch_size,
        }


@dataclass(frozen=True)
class Ask:
    """One question about images, side by side where there are several; key: by which its reply is recorded."""

    key: str
    pictures: tuple[Picture, ...]
    question: str


@dataclass(frozen=True)
class Draw:
    """One prompt and the files that its images go to; key: by which they are recorded."""

    key: str
    prompt: str
    pictures: tuple[Path, ...]


@dataclass
class Run:
    """A run's folder in the hands of one process. recorded: what other processes had done when it began; lost: keys
    whose images are gone since."""

    folder: Path
    own: Journal
    share: Share
    recorded: Mapping[str, Any]
    lost: set[str] = field(default_factory=set)

    def __contains__(self, key: str) -> bool:
        return key not in self.lost and (key in self.own or key in self.recorded)

    def add(self, values: Mapping[str, Any]) -> None:
        """Record what is done; of an image that was lost the record is there."""
        self.own.add({key: value for key, value in values.items() if key not in self.lost})
        self.lost -= values.keys()


def settings_checked(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in ``folder`` what its run is.

    Raises ValueError when there is something else in the folder, and, naming what differs, when its records are of
    another run.
    """
    wanted = json.loads(json.dumps(settings))
    described = folder / "run.json"
    if folder.is_dir() and not described.is_file():
        other = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if other:
            raise ValueError(f"{folder} holds something else, such as {other[0]}; give a new --out")
    with exclusive_lock(folder / ".run.lock"):
        if described.is_file() and any(path.stat().st_size for path in _journals(folder)):
            found = read_json(described)
            if not isinstance(found, dict):
                raise ValueError(f"{described}: not the settings of a run; give a new --out")
            differ = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
            if differ:
                shown = "; ".join(
                    f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}" for name in differ
                )
                raise ValueError(f"{folder} holds another run ({shown}); give a new --out")
        else:
            write_text(described, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")


def own_journal(folder: Path, share: Share) -> Journal:
    """The records of this process."""
    return Journal(folder / f"records-{share.rank}.jsonl")


def all_records(folder: Path) -> dict[str, Any]:
    """What all processes have recorded so far."""
    found: dict[str, Any] = {}
    for path in _journals(folder):
        found.update(read_journal(path))
    return found


def when_all_are_done(folder: Path, keys: Sequence[str], *, every: float = 1.0) -> dict[str, Any]:
    """The records of all processes, as soon as there is one of every key."""
    said = False
    while True:
        found = all_records(folder)
        missing = sum(key not in found for key in keys)
        if missing == 0:
            return found
        if not said:
            logger.info("waiting for other processes: %d items are not done", missing)
            said = True
        time.sleep(every)


def _opened(asks: Sequence[Ask]) -> dict[tuple[Picture, ...], Image.Image | None]:
    """The image of each question, opened once. Raises ValueError naming a question whose image is none."""
    opened: dict[tuple[Picture, ...], Image.Image | None] = {}
    for ask in asks:
        if ask.pictures not in opened:
            try:
                opened[ask.pictures] = one_image(ask.pictures)
            except ValueError as error:
                raise ValueError(f"question {ask.key}: {error}") from None
    return opened


def answer_all(model: Model, asks: Sequence[Ask], run: Run, *, max_new_tokens: int, title: str) -> None:
    """Record this process's greedy replies: {"reply", "finished"}; finished False was cut at the limit."""

    def answered(batch: Sequence[Ask], start: int) -> dict[str, Any]:
        opened = _opened(batch)
        groups = model.policy.sample_text(
            TextSampling(
                images=[opened[ask.pictures] for ask in batch],
                questions=[ask.question for ask in batch],
                temperature=0.0,
                max_new_tokens=max_new_tokens,
            )
        )
        return {
            ask.key: {"reply": group[0].text, "finished": group[0].finished}
            for ask, group in zip(batch, groups, strict=True)
        }

    in_batches(asks, run, size=model.batch_size, work=answered, key=lambda ask: ask.key, title=title)


def draw_all(
    model: Model,
    draws: Sequence[Draw],
    run: Run,
    *,
    title: str,
    seed_of: Callable[[int, int], int] | None = None,
) -> None:
    """Write this process's images, whole, then record {"guidance"} that they were drawn with.

    Images that are recorded and gone are drawn again, the same ones.
    seed_of: a batch's seed from the run's and the number of the batch's first prompt.
    """
    seed_of = seed_of or _seed
    run.lost |= {
        draw.key for draw in draws if draw.key in run and not all(path.is_file() for path in draw.pictures)
    }

    def drawn(batch: Sequence[Draw], start: int) -> dict[str, Any]:
        policy = model.policy
        guidance = policy.default_guidance if model.guidance is None else model.guidance
        groups = policy.sample_images(
            ImageSampling(
                prompts=[draw.prompt for draw in batch],
                rollouts=len(batch[0].pictures),
                temperature=model.temperature,
                guidance=guidance,
                seed=seed_of(model.seed, start),
            )
        )
        pictures = policy.decode_images([trajectory for group in groups for trajectory in group])
        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(_save, [path for draw in batch for path in draw.pictures], pictures))
        return {draw.key: {"guidance": guidance} for draw in batch}

    rollouts = len(draws[0].pictures) if draws else 1
    size = max(1, model.batch_size // rollouts)
    in_batches(draws, run, size=size, work=drawn, key=lambda draw: draw.key, title=title)


def digest_of(keys: Sequence[object]) -> str:
    """A name of a list of items, for run.json."""
    return hashlib.sha256(json.dumps([str(key) for key in keys]).encode()).hexdigest()[:16]


def in_batches(
    items: Sequence[T],
    run: Run,
    *,
    size: int,
    work: Callable[[Sequence[T], int], Mapping[str, Any]],
    key: Callable[[T], str],
    title: str,
) -> None:
    """Work on what is not recorded, in batches that are the same ones whoever works on them, and whenever.

    Ctrl-C ends it after the batch, as KeyboardInterrupt.
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


def _save(path: Path, picture: Image.Image) -> None:
    """Least effort: the GPU waits, and compressing an image well takes as long as drawing a part of it."""
    with atomic_write(path) as aside:
        picture.save(aside, format="PNG", compress_level=1)


def _seed(seed: int, start: int) -> int:
    """A seed for each batch; those of other batches and other runs are far away."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{start}".encode()).digest()[:6], "big")


def _journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("records-*.jsonl"))


def _digest_of_weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(size * sample // _SAMPLES)
                digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:16]
