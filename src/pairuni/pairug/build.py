"""Algorithm 1 from raw data to PairUG (arXiv:2510.25682, section 2.1): the stages in order, resumable."""

from __future__ import annotations

import json
import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pairuni.config import PairsSettings
from pairuni.io.files import atomic_write, write_text
from pairuni.io.images import Trait
from pairuni.pairug.completion.annotator import Annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport, Dropped, complete, report_of
from pairuni.pairug.completion.costs import Plan, Usage, usage_of
from pairuni.pairug.completion.dialogue import origin_of
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.pairug.completion.prompts import PROMPTS_DIGEST
from pairuni.pairug.dataset.card import write_card
from pairuni.pairug.dataset.gathering import gather_images
from pairuni.pairug.dataset.images import counted
from pairuni.pairug.dataset.images import described as image_notes
from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.pairug.dataset.store import write_pairs
from pairuni.pairug.jsonl import dump_line, dump_lines
from pairuni.pairug.raw_data import RawData, read_raw
from pairuni.pairug.record_file import picked
from pairuni.pairug.scale.spread import Spread, complete_spread, encode_spread
from pairuni.pairug.selection.comparison import compare_matchings
from pairuni.pairug.selection.encoders import TransformersEncoder
from pairuni.pairug.selection.features import EncodedImages, Encoder, encode_features
from pairuni.pairug.selection.selection import select_pairs
from pairuni.records import GenerationSample, Origin, Quadruple, UGPair, UnderstandingSample

logger = logging.getLogger("pairuni")

Advance = Callable[[str, int, int], None]
"""Called with a stage's name, items done since the last call, and the stage's total."""

SAMPLES_PER_CLUSTER = 21
"""Clusters when none are asked for: the paper's 107 K samples gave 4,971 medoids, one for 21.5."""

_WHERE = {"engine", "workers", "worker_gpus"}
"""Settings that do not change what is made."""

_ORIGINS: tuple[Origin, ...] = ("understanding", "generation")


@dataclass(frozen=True)
class BuildSummary:
    """What a build made: samples = quadruples + dropped + failed, pairs = aligned + retrieved.

    failed: samples that got no answer. tries: answers of the annotator's writing half, checks: of its verifying
    half; retried: samples completed after a refusal. clusters: K that was asked of k-means. compared: share of all
    cosines that the first search for candidates computed; recall: share of the near pairs that it found, on a sample.
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
        return self.aligned + self.retrieved

    def to_json(self) -> dict[str, float]:
        return {**asdict(self), "pairs": self.pairs}


def build_pairs(
    settings: PairsSettings,
    *,
    encoder: Encoder | None = None,
    annotator: Annotator | ModelAnnotator,
    advance: Advance | None = None,
    spread: Spread | None = None,
    make_encoder: Callable[[], Encoder] | None = None,
) -> BuildSummary:
    """Complete, encode, cluster and match; fill ``settings.out``.

    Written at the end, each file whole or not at all, pairs.jsonl last: quadruples.jsonl (all completed
    samples), dropped.jsonl (samples set aside, with reasons), stats.json, README.md (the data set card),
    pairs.jsonl, and images/ with
    copies of those images that do not lie under ``settings.out`` already. A build that was stopped goes on:
    every answer is kept in cache/ as it arrives (those of a model for good, those of an annotator of one's own
    until the build is done), features in cache/ by content.

    spread: workers that complete, encode and search in this process's stead; they make encoders of their own.
    make_encoder: in place of ``encoder``, called when the raw data is read and found usable, before anything is
    completed. Images that are missing or do not decode are set aside, never fatal. Raises ValueError naming what is
    wrong with the raw data, when a corpus is empty or nothing of it is left, and what ``complete`` raises.
    """
    out = settings.out
    scratch = out / "cache"
    raw = read_raw(settings, out / "images", scratch)
    present, dropped = _set_missing_aside(raw)
    if make_encoder is not None:
        encoder = make_encoder()
    answers = _answers_of(settings, annotator)
    with AnswerStore(answers) as store:
        report = _completed(settings, present, annotator, store, spread, advance)
        usage = usage_of(settings.completion, store) if isinstance(annotator, ModelAnnotator) else None
    dropped += report.dropped
    _require_both(report.quadruples, dropped)
    encoded, described = _encoded(settings, report.quadruples, encoder, spread, advance)
    dropped += _undecodable(report.quadruples, encoded)
    pictures = counted(encoded.distinct_traits())
    for sentence in image_notes(pictures):
        logger.info("%s", sentence)
    kept = picked(report.quadruples, encoded.kept)
    _require_both(kept, dropped)
    quadruples = gather_images(kept, encoded.digests, out, scratch)
    clusters = settings.clusters or max(1, round(len(kept) / SAMPLES_PER_CLUSTER))
    searches: list[tuple[float, float]] = []
    pairs = select_pairs(
        quadruples,
        encoded.features,
        clusters=clusters,
        clustering=settings.clustering,
        threshold=settings.threshold,
        max_matches=settings.max_matches,
        seed=settings.seed,
        matching=settings.matching,
        candidates=settings.candidates,
        engine=spread.engine if spread is not None else None,
        searched=lambda compared, recall: searches.append((compared, recall)),
    )
    described = {"width": encoded.features.shape[1], **described}
    compared = None
    if settings.compare_matchings:
        compared = compare_matchings(
            quadruples,
            encoded.features,
            pairs,
            threshold=settings.threshold,
            max_matches=settings.max_matches,
            candidates=settings.candidates,
            seed=settings.seed,
        )
    summary = _summary(len(raw.samples) + len(raw.bad), dropped, clusters, report, quadruples, pairs)
    if searches:
        summary = replace(summary, compared=round(searches[0][0], 6), recall=round(searches[0][1], 6))
    _write(settings, summary, usage, raw.left_out, quadruples, dropped, pairs, compared, described, pictures)
    if not isinstance(annotator, ModelAnnotator):
        answers.unlink()  # their keys do not tell whether the class is still the same
    if dropped:
        where = settings.out / "dropped.jsonl"
        logger.warning(
            "%d samples were set aside, the first (%s) because: %s; all reasons are in %s",
            len(dropped),
            dropped[0].id,
            dropped[0].reason,
            where,
        )
    return summary


def _completed(
    settings: PairsSettings,
    samples: Sequence[UnderstandingSample | GenerationSample],
    annotator: Annotator | ModelAnnotator,
    store: AnswerStore,
    spread: Spread | None,
    advance: Advance | None,
) -> CompletionReport:
    def ended(done: int = 1) -> None:
        _tell(advance, "completion", done, len(samples))

    scratch = store.path.parent
    if spread is not None:
        outcomes = complete_spread(samples, settings, store, spread.engine, ended)
        return report_of(samples, outcomes, settings.seed, scratch)
    return complete(
        samples,
        annotator,
        settings.max_tries,
        advance=ended,
        seed=settings.seed,
        store=store,
        scratch=scratch,
    )


def _encoded(
    settings: PairsSettings,
    quadruples: Sequence[Quadruple],
    encoder: Encoder | None,
    spread: Spread | None,
    advance: Advance | None,
) -> tuple[EncodedImages, Mapping[str, Any]]:
    """Features, and what there is to say of the encoder."""
    paths = [quadruple.image_path for quadruple in quadruples]

    def done(images: int) -> None:
        _tell(advance, "features", images, len(paths))

    if spread is not None:
        return encode_spread(paths, settings, spread, done)
    assert encoder is not None
    encoded = encode_features(
        paths,
        encoder,
        batch_size=settings.batch_size,
        cache=settings.out / "cache" / "features",
        advance=done,
    )
    return encoded, describe_encoder(encoder)


def plan_completion(settings: PairsSettings, annotator: ModelAnnotator) -> Plan:
    """What completing the raw data would still take. Asks nothing, writes nothing. Raises ValueError."""
    path = _answers_of(settings, annotator)
    with tempfile.TemporaryDirectory() as folder:
        present, _ = _set_missing_aside(read_raw(settings, Path(folder), Path(folder)))
        store = AnswerStore(path) if path.is_file() else None
        try:
            return annotator.plan(present, settings.max_tries, store)
        finally:
            if store is not None:
                store.close()


def _answers_of(settings: PairsSettings, annotator: Annotator | ModelAnnotator) -> Path:
    name = "answers.jsonl" if isinstance(annotator, ModelAnnotator) else "completion.jsonl"
    return settings.out / "cache" / name


def _set_missing_aside(
    raw: RawData,
) -> tuple[Sequence[UnderstandingSample | GenerationSample], list[Dropped]]:
    """The samples with images, and all that is set aside before the annotator is asked, which may cost money."""
    numbers = array("q")
    dropped = list(raw.bad)
    for number, sample in enumerate(raw.samples):
        if Path(sample.image_path).is_file():
            numbers.append(number)
        else:
            dropped.append(Dropped(sample.id, origin_of(sample), sample.image_path, "the image is missing"))
    present = picked(raw.samples, numbers)
    _require_both(present, dropped)
    return present, dropped


def _undecodable(quadruples: Sequence[Quadruple], encoded: EncodedImages) -> list[Dropped]:
    faulty = ((quadruples[number], reason) for number, reason in sorted(encoded.faults.items()))
    return [Dropped(q.id, q.origin, q.image_path, f"the image {reason}") for q, reason in faulty]


def _require_both(
    left: Sequence[UnderstandingSample | GenerationSample | Quadruple], dropped: Sequence[Dropped]
) -> None:
    origins = {one.origin if isinstance(one, Quadruple) else origin_of(one) for one in left}
    for origin in _ORIGINS:
        if origin not in origins:
            lost = [one for one in dropped if one.origin == origin]
            raise ValueError(
                f"none of the {len(lost)} {origin} samples can be used; the first, "
                f"{lost[0].id!r} ({lost[0].image_path or 'no picture'}), was set aside because: {lost[0].reason}"
            )


def _summary(
    samples: int,
    dropped: Sequence[Dropped],
    clusters: int,
    report: CompletionReport,
    quadruples: Sequence[Quadruple],
    pairs: Sequence[UGPair],
) -> BuildSummary:
    kinds = Counter(pair.kind for pair in pairs)
    assert samples == len(quadruples) + len(dropped)
    return BuildSummary(
        samples=samples,
        quadruples=len(quadruples),
        dropped=len(dropped) - report.failed,
        failed=report.failed,
        tries=report.tries,
        checks=report.checks,
        retried=report.retried,
        clusters=clusters,
        aligned=kinds["aligned"],
        retrieved=kinds["retrieved"],
    )


def _write(
    settings: PairsSettings,
    summary: BuildSummary,
    usage: Usage | None,
    left_out: Mapping[Origin, Mapping[str, int]],
    quadruples: Sequence[Quadruple],
    dropped: Sequence[Dropped],
    pairs: Sequence[UGPair],
    compared: Mapping[str, Any] | None,
    described: Mapping[str, Any],
    pictures: Mapping[Trait, int],
) -> None:
    chosen = settings.model_dump(mode="json", exclude={"understanding", "generation", "out", *_WHERE})
    stats = {"build": summary.to_json(), "left_out": left_out, "settings": chosen, **pair_statistics(pairs)}
    stats["features"] = described
    stats["pictures"] = pictures
    if compared is not None:
        stats["matchings"] = compared
    if usage is not None:
        stats["completion"] = {**usage.to_json(), "prompts": PROMPTS_DIGEST}
    with (
        atomic_write(settings.out / "quadruples.jsonl") as aside,
        aside.open("w", encoding="utf-8") as lines,
    ):
        lines.writelines(map(dump_line, quadruples))
    write_text(settings.out / "dropped.jsonl", dump_lines(asdict(one) for one in dropped))
    write_text(settings.out / "stats.json", json.dumps(stats, indent=1) + "\n")
    write_card(settings.out, pairs, data_files="pairs.jsonl", name=settings.out.resolve().name)
    write_pairs(settings.out / "pairs.jsonl", pairs)


def describe_encoder(encoder: Encoder) -> dict[str, str]:
    """What there is to say of an encoder that is no class of one's own."""
    if not isinstance(encoder, TransformersEncoder):
        return {}
    return {"pooling": encoder.pooling, "dtype": encoder.dtype}


def _tell(advance: Advance | None, stage: str, done: int, total: int) -> None:
    if advance is not None:
        advance(stage, done, total)
