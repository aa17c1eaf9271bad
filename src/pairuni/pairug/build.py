"""Algorithm 1 from raw data to PairUG (arXiv:2510.25682, section 2.1): the stages in order, resumable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairuni.config import PairsSettings
from pairuni.files import write_text
from pairuni.pairug.clustering import cluster_medoids
from pairuni.pairug.completion import Completer, CompletionReport, Dropped, complete
from pairuni.pairug.features import Encoder, cached_features, encode_features
from pairuni.pairug.images import image_fault
from pairuni.pairug.jsonl import dump_line, read_records
from pairuni.pairug.matching import match_sequential
from pairuni.pairug.sources import read_generation, read_understanding
from pairuni.pairug.store import pair_statistics, write_pairs
from pairuni.records import GenerationSample, Quadruple, UGPair, UnderstandingSample

Advance = Callable[[str, int, int], None]
"""Called with a stage's name, items done since the last call, and the stage's total."""

SAMPLES_PER_CLUSTER = 21
"""Clusters when none are asked for: the paper's 107 K samples gave 4,971 medoids."""


@dataclass(frozen=True)
class BuildSummary:
    """What a build made. samples = quadruples + dropped; pairs = aligned + retrieved."""

    samples: int
    quadruples: int
    dropped: int
    tries: int
    clusters: int
    aligned: int
    retrieved: int

    @property
    def pairs(self) -> int:
        return self.aligned + self.retrieved

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "pairs": self.pairs}


def build_pairs(
    settings: PairsSettings,
    *,
    encoder: Encoder,
    completer: Completer,
    advance: Advance | None = None,
) -> BuildSummary:
    """Complete, encode, cluster and match; fill ``settings.out``.

    Written: pairs.jsonl and the images it names, quadruples.jsonl, dropped.jsonl, stats.json. A build that
    stopped goes on: quadruples and features are kept and made again only when their input has changed.
    Raises ValueError naming what is wrong with the raw data, and when nothing is left to pair.
    """
    report = _completed(settings, completer, advance)
    quadruples = report.quadruples
    if not quadruples:
        raise ValueError("no sample could be completed; see dropped.jsonl for the reasons")
    image_paths = [quadruple.image_path for quadruple in quadruples]

    def make() -> NDArray[np.float32]:
        return encode_features(
            settings.out,
            image_paths,
            encoder,
            batch_size=settings.batch_size,
            advance=lambda done: _tell(advance, "features", done, len(image_paths)),
        )

    cache = settings.out / "features.npy"
    features = cached_features(cache, settings.encoder, settings.out, image_paths, make)
    clusters = settings.clusters or max(1, len(quadruples) // SAMPLES_PER_CLUSTER)
    pairs = select_pairs(
        quadruples,
        features,
        clusters=clusters,
        threshold=settings.threshold,
        neighbours=settings.neighbours,
        seed=settings.seed,
    )
    write_pairs(settings.out / "pairs.jsonl", pairs)
    kinds = Counter(pair.kind for pair in pairs)
    summary = BuildSummary(
        samples=len(quadruples) + len(report.dropped),
        quadruples=len(quadruples),
        dropped=len(report.dropped),
        tries=report.tries,
        clusters=clusters,
        aligned=kinds["aligned"],
        retrieved=kinds["retrieved"],
    )
    stats = {"build": summary.to_json(), **pair_statistics(pairs)}
    write_text(settings.out / "stats.json", json.dumps(stats, indent=1) + "\n")
    return summary


def select_pairs(
    quadruples: Sequence[Quadruple],
    features: NDArray[np.float32],
    *,
    clusters: int,
    threshold: float,
    neighbours: int,
    seed: int,
) -> list[UGPair]:
    """Algorithm 1 on completed data: S = D_aligned (medoids as self-pairs) and D_ret (retrieved pairs).

    features: [N, D] of the quadruples' images, L2-normalised.
    """
    medoids = cluster_medoids(features, clusters, seed)
    aligned, used = [], set()
    for row in medoids:
        quadruple = quadruples[row]
        if quadruple.image_path in used:
            continue
        used.add(quadruple.image_path)
        side = quadruple.annotation()
        aligned.append(UGPair(similarity=1.0, generate_ann=side, understand_ann=side))

    def remaining(origin: str) -> list[int]:
        return [
            row
            for row, quadruple in enumerate(quadruples)
            if quadruple.origin == origin and quadruple.image_path not in used
        ]

    g_rows, u_rows = remaining("generation"), remaining("understanding")
    matches = match_sequential(
        features[g_rows],
        features[u_rows],
        threshold,
        neighbours,
        [quadruples[row].image_path for row in g_rows],
        [quadruples[row].image_path for row in u_rows],
    )
    retrieved = [
        UGPair(
            similarity=match.similarity,
            generate_ann=quadruples[g_rows[match.generation]].annotation(),
            understand_ann=quadruples[u_rows[match.understanding]].annotation(),
        )
        for match in matches
    ]
    return aligned + retrieved


def _completed(settings: PairsSettings, completer: Completer, advance: Advance | None) -> CompletionReport:
    """The completed data, images gathered under ``settings.out``; from disk when the input is the same."""
    kept, note = settings.out / "quadruples.jsonl", settings.out / "completion.json"
    key = _key(settings)
    if kept.is_file() and note.is_file() and (facts := json.loads(note.read_text()))["key"] == key:
        dropped = [Dropped(**one) for one in facts["dropped"]]
        return CompletionReport(read_records(kept, Quadruple), dropped, facts["tries"])
    samples = [
        *_gathered(read_understanding(settings.understanding), settings.understanding, settings.out),
        *_gathered(read_generation(settings.generation), settings.generation, settings.out),
    ]
    report = complete(
        samples,
        completer,
        settings.max_tries,
        advance=lambda: _tell(advance, "completion", 1, len(samples)),
    )
    write_text(kept, "".join(dump_line(quadruple) for quadruple in report.quadruples))
    reasons = [asdict(one) for one in report.dropped]
    write_text(settings.out / "dropped.jsonl", "".join(json.dumps(one) + "\n" for one in reasons))
    write_text(note, json.dumps({"key": key, "tries": report.tries, "dropped": reasons}) + "\n")
    return report


def _key(settings: PairsSettings) -> str:
    digest = hashlib.blake2b(f"{settings.completer} {settings.max_tries}".encode())
    for path in (settings.understanding, settings.generation):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        digest.update(f"\0{path.resolve()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _gathered(
    samples: Sequence[Any], source: Path, out: Path
) -> list[UnderstandingSample | GenerationSample]:
    """The samples with their images linked (or copied) under ``out``: a pair file keeps its images beside it.

    Raises ValueError naming every sample whose image does not open whole.
    """
    corpus = "understanding" if isinstance(samples[0], UnderstandingSample) else "generation"
    faults = []
    gathered = []
    for sample in samples:
        fault = image_fault(source.parent, sample.image_path)
        if fault is not None:
            faults.append(f"{source}, sample {sample.id!r}: {fault}")
            continue
        place = Path("images") / corpus / sample.image_path
        if not (out / place).exists():
            (out / place).parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(source.parent / sample.image_path, out / place)
        gathered.append(sample.model_copy(update={"image_path": place.as_posix()}))
    if faults:
        more = f" (and {len(faults) - 1} more images)" if len(faults) > 1 else ""
        raise ValueError(faults[0] + more)
    return gathered


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        aside = target.with_name(f".{target.name}.partial")
        shutil.copyfile(source, aside)
        os.replace(aside, target)


def _tell(advance: Advance | None, stage: str, done: int, total: int) -> None:
    if advance is not None:
        advance(stage, done, total)
