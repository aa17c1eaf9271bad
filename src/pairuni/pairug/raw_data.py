"""The raw data of a build: the samples of both corpora, and the records that cannot be used."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pairuni.config import PairsSettings
from pairuni.console.counts import counted
from pairuni.io.paths import path_fault
from pairuni.pairug.completion.completion import Dropped
from pairuni.pairug.completion.dialogue import Sample, origin_of
from pairuni.pairug.dataset.store import QUADRUPLES, read_quadruples
from pairuni.pairug.jsonl import Problem, raise_first
from pairuni.pairug.record_file import RecordFile, picked
from pairuni.pairug.sources import SampleReader
from pairuni.records import GenerationSample, Origin, Quadruple, UnderstandingSample

logger = logging.getLogger("pairuni")


@dataclass
class RawData:
    """samples: U, then G. dropped: records that cannot be used. left_out: records not wanted, by corpus and reason."""

    samples: Sequence[Sample]
    dropped: list[Dropped] = field(default_factory=list)
    left_out: dict[Origin, dict[str, int]] = field(default_factory=dict)

    def with_images(self) -> RawData:
        """The data without the samples that miss an image file: they are dropped before completion costs money.

        Raises ValueError when no sample of a corpus is left.
        """
        present = array("q")
        dropped = list(self.dropped)
        for number, sample in enumerate(self.samples):
            missing = next((path for path in sample.image_paths if not Path(path).is_file()), None)
            if missing is None:
                present.append(number)
            else:
                dropped.append(Dropped(sample.id, origin_of(sample), missing, "the image is missing"))
        samples = picked(self.samples, present)
        require_both(samples, dropped)
        return RawData(samples, dropped, self.left_out)


def read_raw(settings: PairsSettings, images: Path, scratch: Path) -> RawData:
    """Read both corpora. Images embedded in files are written to ``images``; samples are kept in ``scratch``.

    Raises FileNotFoundError, or ValueError for an empty corpus and, unless ``bad_records`` is drop, for the first
    record that cannot be used.
    """
    samples: RecordFile[Sample] = RecordFile(scratch, UnderstandingSample, GenerationSample)
    raw = RawData(samples)
    readers: dict[Origin, SampleReader[Any]] = {
        "understanding": SampleReader(settings.understanding, UnderstandingSample, images),
        "generation": SampleReader(settings.generation, GenerationSample, images),
    }
    for origin, reader in readers.items():
        problems: list[Problem] = []
        before = len(samples)
        for found in reader:
            if isinstance(found, Problem):
                problems.append(found)
            else:
                samples.append(found)
        if settings.bad_records == "stop":
            raise_first(problems)
        raw.dropped += [Dropped(one.where, origin, "", str(one)) for one in _one_per_record(problems)]
        if len(samples) == before and not problems:
            raise ValueError(reader.empty_message())
        raw.left_out[origin] = dict(reader.left_out)
        for reason, count in reader.left_out.items():
            logger.warning("%s: %s left out: %s", reader.names, counted(count, "record"), reason)
        for what, count in reader.not_kept.items():
            logger.warning("%s: %s dropped from %s", reader.names, what, counted(count, "record"))
    return raw


def read_completed(folder: Path, scratch: Path) -> RecordFile[Quadruple]:
    """The completed samples of the build in ``folder``, with image paths that start there; kept in ``scratch``.

    Raises FileNotFoundError, and ValueError for a sample that cannot be used and if one corpus has none.
    """
    path = folder / QUADRUPLES
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `completed` names the folder of a finished build")
    samples = RecordFile(scratch, Quadruple)
    for number, sample in enumerate(read_quadruples(path), start=1):
        for name, image_path in sample.image_fields:
            if (fault := path_fault(folder, image_path)) is not None:
                raise ValueError(f"{path}, line {number}, field {name}: {fault}")
        samples.append(sample.with_images([str(folder / one) for one in sample.image_paths]))
    if missing := set(get_args(Origin)) - {sample.origin for sample in samples}:
        raise ValueError(f"{path} has no {min(missing)} samples")
    return samples


def require_both(left: Iterable[Sample | Quadruple], dropped: Sequence[Dropped]) -> None:
    """Raise ValueError when no sample of a corpus is left; the message names the first that was dropped."""
    origins = {one.origin if isinstance(one, Quadruple) else origin_of(one) for one in left}
    for origin in get_args(Origin):
        if origin not in origins:
            lost = [one for one in dropped if one.origin == origin]
            raise ValueError(
                f"none of the {len(lost)} {origin} samples can be used; the first, {lost[0].id!r} "
                f"({lost[0].image_path or 'no image'}), was dropped because: {lost[0].reason}"
            )


def _one_per_record(problems: Sequence[Problem]) -> Iterable[Problem]:
    """The first problem of each record, in order."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.where, problem)
    return first.values()
