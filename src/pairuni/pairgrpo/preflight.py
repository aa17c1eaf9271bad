"""Checks before training that every pair can be used: the policy accepts its texts, and its images open."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pairuni.config import RolloutSettings
from pairuni.console.progress import Progress
from pairuni.io.images import ImageError, decode, read_bytes, read_header
from pairuni.placeholders import placeholder_fault
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import UGPair

DECODED = 2000
"""Images that are decoded completely. Of more, about this many are, evenly spaced, and all that seem truncated."""
_PROGRESS_FROM = 5000
"""Number of images from which the check shows its progress."""
_SHOWN_CHARACTERS = 80
_THREADS = min(16, 4 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Fault:
    """A value that a run cannot use. field: as in the pair file; index: the first pair of the run that has it."""

    index: int
    field: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"pair {self.index + 1}, field {self.field}: {self.description}"

    @property
    def description(self) -> str:
        value = self.value
        if len(value) > _SHOWN_CHARACTERS:
            value = f"{value[:_SHOWN_CHARACTERS]}..."
        return f"{value!r} {self.reason}"


class UnusablePairs(ValueError):
    """Pairs that the run cannot use. faults: all that is wrong with them; the message has the first ones."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults
        super().__init__(summary([str(fault) for fault in faults]))


def summary(faults: Sequence[str], most: int = 10) -> str:
    """The first faults, one per line, and the number of the others."""
    more = len(faults) - most
    return "\n".join([*faults[:most], *([f"and {more:,} more"] if more > 0 else [])])


def check_pairs(
    policy: UnifiedPolicy, pairs: Sequence[UGPair], rollout: RolloutSettings, image_folder: Path
) -> str:
    """Check every question, prompt and image that a run with these pairs uses; SHA-256 of the image files.

    Raises UnusablePairs naming pair and field.
    """
    # by field, each value and the first pair that has it; questions by the number of their images
    questions: dict[int, dict[str, int]] = {}
    prompts: dict[str, int] = {}
    images: dict[str, tuple[int, str]] = {}
    for index, pair in enumerate(pairs):
        asked = pair.understand_ann
        count = len(asked.image_paths)
        questions.setdefault(count, {}).setdefault(asked.question, index)
        prompts.setdefault(pair.generate_ann.prompt, index)
        for path in asked.image_paths:
            images.setdefault(path, (index, "image_paths" if count > 1 else "image_path"))
    digest, broken = _check_images(image_folder, list(images))
    found = [
        ("generate_ann.prompt", prompts, _placeholders(prompts) | policy.prompt_faults(list(prompts))),
    ]
    for count, texts in sorted(questions.items()):
        refused = policy.question_faults(list(texts), rollout.max_new_tokens, count)
        found.append(("understand_ann.question", texts, _placeholders(texts) | refused))
    for key in ("image_path", "image_paths"):
        own = {path: index for path, (index, place) in images.items() if place == key}
        found.append((f"understand_ann.{key}", own, {path: broken[path] for path in own if path in broken}))
    faults = [
        Fault(first[value], field, value, reason)
        for field, first, reasons in found
        for value, reason in reasons.items()
    ]
    if faults:
        raise UnusablePairs(sorted(faults, key=lambda fault: (fault.index, fault.field)))
    return digest


def _placeholders(texts: Mapping[str, int]) -> dict[str, str]:
    """Texts with image placeholders or special tokens of other formats, which this policy would read as plain text."""
    return {text: fault for text in texts if (fault := placeholder_fault(text)) is not None}


def _check_images(folder: Path, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A digest of all files with their names, and by name why an image does not open."""
    every = max(1, -(-len(names) // DECODED))
    jobs = [(folder / name, place % every == 0) for place, name in enumerate(names)]
    digest, faults = hashlib.sha256(), {}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        progress = None
        if len(names) >= _PROGRESS_FROM:
            progress = stack.enter_context(Progress("checking images", total=len(names), unit="images"))
        for name, (content, fault) in zip(names, pool.map(_check_image, jobs), strict=True):
            digest.update(f"{name}\0{content}\n".encode("utf-8", errors="surrogatepass"))
            if fault is not None:
                faults[name] = fault
            if progress is not None:
                progress.advance()
    return digest.hexdigest(), faults


def _check_image(job: tuple[Path, bool]) -> tuple[str, str | None]:
    """(digest of the file, why it does not open). job: the path, and whether to decode in any case."""
    path, always_decode = job
    content = ""
    try:
        data = read_bytes(path)
        content = hashlib.sha256(data).hexdigest()
        if always_decode or not _has_end(data):
            decode(data)
        else:
            read_header(data)
    except ImageError as error:
        return content, f"{error.reason} ({path})"
    return content, None


def _has_end(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end marker. Other formats, and files with trailing data, must be decoded."""
    return (data[:2] == b"\xff\xd8" and data.endswith(b"\xff\xd9")) or (
        data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    )
