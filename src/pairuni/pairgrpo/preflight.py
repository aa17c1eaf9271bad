"""What every pair must be for a run to reach its end: texts that the policy takes, images that open."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pairuni.config import RolloutSettings
from pairuni.io.images import ImageError, decode, read_bytes, read_header
from pairuni.placeholders import placeholder_fault
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import UGPair
from pairuni.training.tracking import Progress

DECODED = 2000
"""Images that are decoded whole. Of more, so many at even distances are, and all those that seem to be cut off."""
_LONG = 5000
"""Images from which on the check shows its progress."""
_SHOWN = 80
_THREADS = min(16, 4 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Fault:
    """Something of a pair that a run cannot use. field: as in the pair file; index: the pair's place in the run."""

    index: int
    field: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"pair {self.index + 1}, field {self.field}: {self.said}"

    @property
    def said(self) -> str:
        """What is wrong, in words."""
        value = self.value if len(self.value) <= _SHOWN else f"{self.value[:_SHOWN]}..."
        return f"{value!r} {self.reason}"


class UnusablePairs(ValueError):
    """Pairs that would end a run at their step; ``faults`` has all of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = faults
        super().__init__(summary([str(fault) for fault in faults]))


def summary(faults: Sequence[str], most: int = 10) -> str:
    """Faults a line each, the first few of them, and how many more there are."""
    more = len(faults) - most
    return "\n".join(
        [*faults[:most], *([f"and {more:,} more" if more > 1 else "and 1 more"] if more > 0 else [])]
    )


def check_pairs(
    policy: UnifiedPolicy, pairs: Sequence[UGPair], rollout: RolloutSettings, image_folder: Path
) -> str:
    """Check every question, prompt and image that a run of these pairs uses; SHA-256 of the images' files.

    Raises UnusablePairs naming pair and field of what the policy does not take or what does not open.
    """
    first: dict[tuple[str, str], int] = {}
    for index, pair in enumerate(pairs):
        side = pair.understand_ann
        for field, value in (
            ("understand_ann.question", side.question),
            ("generate_ann.prompt", pair.generate_ann.prompt),
            ("understand_ann.image_path", side.image_path),
        ):
            first.setdefault((field, value), index)

    def values(field: str) -> list[str]:
        return [value for name, value in first if name == field]

    asked, drawn = values("understand_ann.question"), values("generate_ann.prompt")
    faults = [
        *_named(
            "understand_ann.question", _marks(asked) | policy.question_faults(asked, rollout.max_new_tokens)
        ),
        *_named("generate_ann.prompt", _marks(drawn) | policy.prompt_faults(drawn)),
    ]
    digest, broken = _check_images(image_folder, values("understand_ann.image_path"))
    faults += _named("understand_ann.image_path", broken)
    if faults:
        found = [Fault(first[field, value], field, value, reason) for field, value, reason in faults]
        raise UnusablePairs(sorted(found, key=lambda fault: (fault.index, fault.field)))
    return digest


def _marks(texts: Sequence[str]) -> dict[str, str]:
    """What stands for an image in other formats or looks like a special token, by text: to this policy it may be plain
    text, which is not what the data mean."""
    return {text: fault for text in texts if (fault := placeholder_fault(text)) is not None}


def _named(field: str, faults: dict[str, str]) -> Iterable[tuple[str, str, str]]:
    return [(field, value, reason) for value, reason in faults.items()]


def _check_images(folder: Path, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A digest of all files by name, and what is wrong with those that do not open."""
    step = max(1, -(-len(names) // DECODED))
    jobs = [(folder / name, place % step == 0) for place, name in enumerate(names)]
    digest, faults = hashlib.sha256(), {}
    with ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(_THREADS))
        progress = None
        if len(names) >= _LONG:
            progress = opened.enter_context(Progress("checking images", total=len(names), unit="pictures"))
        for name, (content, fault) in zip(names, pool.map(_look, jobs), strict=True):
            digest.update(f"{name}\0{content}\n".encode("utf-8", errors="surrogatepass"))
            if fault is not None:
                faults[name] = fault
            if progress is not None:
                progress.advance()
    return digest.hexdigest(), faults


def _look(job: tuple[Path, bool]) -> tuple[str, str | None]:
    """The digest of an image's file, and what is wrong with it; whole: its pixels are decoded, whatever it takes."""
    path, whole = job
    content = ""
    try:
        data = read_bytes(path)
        content = hashlib.sha256(data).hexdigest()
        if whole or not _ends(data):
            decode(data)
        else:
            read_header(data)
    except ImageError as error:
        return content, f"{error.reason} ({path})"
    return content, None


def _ends(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end; of other formats, and of what a camera added to, decoding tells."""
    return (data[:2] == b"\xff\xd8" and data.endswith(b"\xff\xd9")) or (
        data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    )
