"""Both corpora of a build, and what of them is not used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairuni.config import PairsSettings
from pairuni.console.counts import counted
from pairuni.pairug.completion.completion import Dropped
from pairuni.pairug.jsonl import Problem, raise_first
from pairuni.pairug.record_file import RecordFile
from pairuni.pairug.sources import SampleReader
from pairuni.records import GenerationSample, Origin, UnderstandingSample

logger = logging.getLogger("pairuni")


@dataclass
class RawData:
    """samples: U, then G. bad: records that cannot be used. left_out: records that are not wanted, by reason."""

    samples: RecordFile[UnderstandingSample | GenerationSample]
    bad: list[Dropped] = field(default_factory=list)
    left_out: dict[Origin, dict[str, int]] = field(default_factory=dict)


def read_raw(settings: PairsSettings, pictures: Path, scratch: Path) -> RawData:
    """Read both corpora; images that are inside files are written to ``images``, samples kept in ``scratch``.

    Raises FileNotFoundError, or ValueError for an empty corpus and, unless ``bad_records`` is drop, for the first
    record that cannot be used.
    """
    raw = RawData(RecordFile(scratch, UnderstandingSample, GenerationSample))
    readings: dict[Origin, SampleReader[Any]] = {
        "understanding": SampleReader(settings.understanding, UnderstandingSample, pictures),
        "generation": SampleReader(settings.generation, GenerationSample, pictures),
    }
    for origin, reading in readings.items():
        problems: list[Problem] = []
        before = len(raw.samples)
        for found in reading:
            if isinstance(found, Problem):
                problems.append(found)
            else:
                raw.samples.append(found)
        if settings.bad_records == "stop":
            raise_first(problems)
        raw.bad += [Dropped(one.where, origin, "", str(one)) for one in _one_a_record(problems)]
        if len(raw.samples) == before and not problems:
            raise ValueError(reading.empty_message())
        raw.left_out[origin] = dict(reading.left_out)
        for reason, count in reading.left_out.items():
            logger.warning("%s: %s left out: %s", reading.names, counted(count, "record"), reason)
        for what, count in reading.not_kept.items():
            logger.warning("%s: not kept of %s: %s", reading.names, counted(count, "record"), what)
    return raw


def _one_a_record(problems: Sequence[Problem]) -> Iterable[Problem]:
    """The first problem of each record, in order."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.where, problem)
    return first.values()
