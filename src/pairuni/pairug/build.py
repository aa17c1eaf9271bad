"""From raw data to PairUG by Algorithm 1 (arXiv:2510.25682, section 2.1). Resumable."""

from __future__ import annotations

import logging
import tempfile
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairuni.config import PairsSettings
from pairuni.console.counts import counted
from pairuni.io.images import Trait
from pairuni.pairug.completion.annotator import Annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport, Dropped, report_of
from pairuni.pairug.completion.costs import Plan, Usage, usage_of
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.pairug.completion.prompts import PROMPTS_DIGEST
from pairuni.pairug.dataset.folder import DROPPED, write_dataset
from pairuni.pairug.dataset.images import count_traits, describe_traits, gather_images
from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.pairug.jsonl import dump
from pairuni.pairug.raw_data import RawData, read_completed, read_raw, require_both
from pairuni.pairug.record_file import picked
from pairuni.pairug.selection.algorithm1 import JointSet, aligned_pairs, as_pairs, retrieved_pairs
from pairuni.pairug.selection.clustering import fit_clusters
from pairuni.pairug.selection.comparison import compare_matchings
from pairuni.pairug.selection.encoders import Encoder
from pairuni.pairug.selection.features import of_samples
from pairuni.pairug.selection.matching import Match, Retrieval, Search
from pairuni.pairug.stages import LocalStages, Stages
from pairuni.records import Quadruple

logger = logging.getLogger("pairuni")

Advance = Callable[[str, int, int], None]
"""Called with a stage's name, the items done since the last call, and the stage's total."""

NEVER_ALIGNED = "a prompt generates one image, so several give no generation half and are never aligned"

SAMPLES_PER_CLUSTER = 21
"""Default K: the paper's 107 K samples gave 4,971 medoids, one per 21.5 samples."""

_NOT_IN_STATS = {"understanding", "generation", "out", "completed", "engine", "workers", "worker_gpus"}
"""Settings for paths and execution, which do not affect the result."""


@dataclass(frozen=True)
class BuildSummary:
    """The result of a build: samples = quadruples + dropped + failed, pairs = aligned + retrieved.

    samples: raw samples of both corpora. quadruples: completed samples. dropped: samples whose completion was refused,
    or whose record or image cannot be used. failed: samples without an answer. tries: answers of the annotator that
    write a half. checks: answers that verify one. retried: samples completed after a refusal. clusters: K of k-means.
    aligned, retrieved: pairs of this kind. compared: share of all cosines that the first search for candidates
    computed. recall: share of the candidates that it found, measured on a sample.
    """

    samples: int
    quadruples: int
    dropped: int
    failed: int
    tries: int
    checks: int
    retried: int
    clusters: int
    aligned: int
    retrieved: int
    compared: float = 1.0
    recall: float = 1.0

    @property
    def pairs(self) -> int:
        """All pairs, aligned and retrieved."""
        return self.aligned + self.retrieved

    def to_json(self) -> dict[str, float]:
        """The fields and ``pairs``, as in stats.json."""
        return {**asdict(self), "pairs": self.pairs}


def build_pairs(
    settings: PairsSettings,
    *,
    annotator: Annotator | ModelAnnotator | None = None,
    encoder: Encoder | None = None,
    make_encoder: Callable[[], Encoder] | None = None,
    stages: Stages | None = None,
    advance: Advance | None = None,
) -> BuildSummary:
    """Complete, encode, cluster and match the raw data, and write the data set to ``settings.out``.

    The files are those of ``write_dataset``, and copies of the images outside of ``settings.out`` in images/. A
    stopped build resumes from cache/, which keeps every answer as it arrives (those of a custom annotator until the
    build is done) and features by image content. Images that are missing or do not decode are dropped.

    annotator: not needed with ``settings.completed``. encoder or make_encoder: the latter is called once the raw data
    is known to be usable, before completion starts.
    stages: computes completion, features and candidates instead of this process, with separate encoders.
    Raises ValueError for raw data that cannot be used, and what completion raises.
    """
    cache = settings.out / "cache"
    if settings.completed is None:
        raw = read_raw(settings, settings.out / "images", cache).with_images()
        earlier = None
    else:
        raw, annotator = RawData([]), None
        earlier = read_completed(settings.completed, cache)
    if stages is None:
        encoder = make_encoder() if make_encoder is not None else encoder
        assert encoder is not None, "one process needs an encoder"
        stages = LocalStages(settings, annotator, encoder)

    if earlier is not None:
        completed, usage = CompletionReport(earlier), None
    else:
        assert annotator is not None, "raw data needs an annotator"
        completed, usage = _complete(settings, raw, annotator, stages, advance)
    encoded = _encode(settings, completed, stages, advance)
    joint = JointSet.of(encoded.quadruples, encoded.features)
    k = settings.clusters or max(1, round(len(encoded.quadruples) / SAMPLES_PER_CLUSTER))
    clusters = fit_clusters(joint.features, k, settings.seed, settings.clustering)
    aligned = aligned_pairs(joint, clusters, settings.selection, settings.seed)
    retrieved = retrieved_pairs(
        joint,
        aligned,
        clusters,
        threshold=settings.threshold,
        max_matches=settings.max_matches,
        seed=settings.seed,
        matching=settings.matching,
        candidates=settings.candidates,
        engine=stages.engine,
    )
    pairs = as_pairs(encoded.quadruples, [*aligned, *retrieved.matches])

    compared = None
    if settings.compare_matchings:
        compared = compare_matchings(
            joint,
            aligned,
            threshold=settings.threshold,
            max_matches=settings.max_matches,
            candidates=settings.candidates,
            seed=settings.seed,
        )
    numbers = pair_statistics(pairs)
    summary = _summary(completed, encoded, k, retrieved, numbers["kinds"])
    stats = _stats(settings, summary, raw, usage, encoded, numbers, compared)
    stats["several_images"] = _several_images(joint, retrieved.matches)
    lost = (dump(asdict(one)) + "\n" for one in encoded.dropped)
    write_dataset(settings.out, pairs, quadruples=encoded.quadruples, dropped=lost, stats=stats)
    if annotator is not None and not isinstance(annotator, ModelAnnotator):
        _answers_of(settings, annotator).unlink()  # their keys do not tell whether the class has changed
    if encoded.dropped:
        _warn(encoded.dropped, settings.out / DROPPED)
    return summary


def _complete(
    settings: PairsSettings,
    raw: RawData,
    annotator: Annotator | ModelAnnotator,
    stages: Stages,
    advance: Advance | None,
) -> tuple[CompletionReport, Usage | None]:
    """Quadruples and all samples dropped so far, and the usage of the model."""
    with AnswerStore(_answers_of(settings, annotator)) as store:
        done = _counting(advance, "completion", len(raw.samples))
        outcomes = stages.complete(raw.samples, store, done)
        report = report_of(raw.samples, outcomes, settings.seed, settings.out / "cache")
        usage = usage_of(settings.completion, store) if isinstance(annotator, ModelAnnotator) else None
    assert len(raw.samples) == len(report.quadruples) + len(report.dropped)
    report.dropped[:0] = raw.dropped
    require_both(report.quadruples, report.dropped)
    return report, usage


@dataclass(frozen=True)
class _Encoded:
    """Quadruples with image paths in the data set and their features [N, D]; all samples dropped so far.

    encoder: its description.
    """

    quadruples: Sequence[Quadruple]
    features: NDArray[np.float32]
    encoder: Mapping[str, str]
    dropped: list[Dropped]
    traits: Mapping[Trait, int]


def _encode(
    settings: PairsSettings, completed: CompletionReport, stages: Stages, advance: Advance | None
) -> _Encoded:
    quadruples = completed.quadruples
    paths: list[str] = []
    counts = array("q")
    for quadruple in quadruples:
        paths += quadruple.image_paths
        counts.append(len(quadruple.image_paths))
    images = stages.encode(paths, _counting(advance, "features", len(paths)))
    samples = of_samples(images, counts)
    traits = count_traits(images.distinct_traits())
    for sentence in describe_traits(traits):
        logger.info("%s", sentence)
    dropped = list(completed.dropped)
    for number, (image, reason) in sorted(samples.faults.items()):
        lost = quadruples[number]
        dropped.append(Dropped(lost.id, lost.origin, lost.image_paths[image], f"the image {reason}"))
    kept = picked(quadruples, samples.kept)
    require_both(kept, dropped)
    gathered = gather_images(
        kept, samples.digests, settings.out, settings.out / "cache", earlier=settings.completed
    )
    return _Encoded(gathered, samples.features, images.encoder, dropped, traits)


def _summary(
    completed: CompletionReport,
    encoded: _Encoded,
    clusters: int,
    retrieved: Retrieval,
    kinds: Mapping[str, int],
) -> BuildSummary:
    search = retrieved.searches[0] if retrieved.searches else Search()
    return BuildSummary(
        samples=len(encoded.quadruples) + len(encoded.dropped),
        quadruples=len(encoded.quadruples),
        dropped=len(encoded.dropped) - completed.failed,
        failed=completed.failed,
        tries=completed.tries,
        checks=completed.checks,
        retried=completed.retried,
        clusters=clusters,
        aligned=kinds.get("aligned", 0),
        retrieved=kinds.get("retrieved", 0),
        compared=round(search.compared, 6),
        recall=round(search.recall, 6),
    )


def _stats(
    settings: PairsSettings,
    summary: BuildSummary,
    raw: RawData,
    usage: Usage | None,
    encoded: _Encoded,
    numbers: Mapping[str, Any],
    compared: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The content of stats.json. numbers: statistics of the pairs."""
    stats = {
        "build": summary.to_json(),
        "left_out": raw.left_out,
        "settings": settings.model_dump(mode="json", exclude=_NOT_IN_STATS),
        **numbers,
        "features": {"width": encoded.features.shape[1], **encoded.encoder},
        "pictures": encoded.traits,
    }
    if compared is not None:
        stats["matchings"] = compared
    if usage is not None:
        stats["completion"] = {**usage.to_json(), "prompts": PROMPTS_DIGEST}
    return stats


def _several_images(joint: JointSet, matches: Sequence[Match]) -> dict[str, Any]:
    """What became of the samples whose questions show several images: they can only be retrieved."""
    several = ~joint.of_one_image
    paired = sum(bool(several[one.understanding]) for one in matches)
    counts: dict[str, Any] = {"samples": int(several.sum()), "retrieved": paired}
    if counts["samples"]:
        alone = counts["samples"] - paired
        counts |= {"not_paired": alone, "reason": NEVER_ALIGNED}
        logger.info(
            "%s: %d retrieved, %d in no pair: %s",
            counted(counts["samples"], "sample with several images", "samples with several images"),
            *(paired, alone, NEVER_ALIGNED),
        )
    return counts


def _warn(dropped: Sequence[Dropped], path: Path) -> None:
    message = "%d samples were dropped; the first is %s: %s; all reasons are in %s"
    logger.warning(message, len(dropped), dropped[0].id, dropped[0].reason, path)


def plan_completion(settings: PairsSettings, annotator: ModelAnnotator) -> Plan:
    """The remaining requests and cost of completing the raw data. Sends and writes nothing. Raises ValueError."""
    path = _answers_of(settings, annotator)
    with tempfile.TemporaryDirectory() as folder:
        raw = read_raw(settings, Path(folder), Path(folder)).with_images()
        store = AnswerStore(path) if path.is_file() else None
        try:
            return annotator.plan(raw.samples, settings.max_tries, store)
        finally:
            if store is not None:
                store.close()


def _answers_of(settings: PairsSettings, annotator: Annotator | ModelAnnotator) -> Path:
    name = "answers.jsonl" if isinstance(annotator, ModelAnnotator) else "completion.jsonl"
    return settings.out / "cache" / name


def _counting(advance: Advance | None, stage: str, total: int) -> Callable[[int], None]:
    """``advance`` for one stage."""
    return lambda done: advance(stage, done, total) if advance is not None else None
