"""Completion and features by the workers of an engine; what comes out is what one process makes.

Workers meet in the folder ``cache`` of the data set, which all machines must see under the same path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pairuni.config import PairsSettings
from pairuni.io.images import Trait
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore, PartStore
from pairuni.pairug.completion.completion import outcomes_of
from pairuni.pairug.completion.dialogue import Outcome, Sample
from pairuni.pairug.record_file import Lazily
from pairuni.pairug.scale.ray_engine import RayEngine
from pairuni.pairug.selection.feature_cache import FeatureCache
from pairuni.pairug.selection.features import (
    SHARD,
    BlockEncoded,
    EncodedImages,
    Encoder,
    behaviour_of,
    collect,
    encode_block,
)

SAMPLES = 64
"""Samples of a block: a worker that dies takes the answers in flight of one with it, none that were stored."""
PARTS = "parts"

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Spread:
    """The engine that does blocks, and how a worker makes its encoder. describe: what there is to say of one."""

    engine: RayEngine
    make_encoder: Callable[[], Encoder]
    describe: Callable[[Encoder], Mapping[str, Any]]


def check_spread(settings: PairsSettings) -> None:
    """Raises ValueError for what one process alone can do."""
    if settings.engine == "local":
        return
    if settings.annotator == "batch":
        raise ValueError("annotator = batch works on files of one process: set engine = local")
    if settings.completion.max_calls is not None or settings.completion.max_cost is not None:
        raise ValueError(
            "a budget (completion.max_calls, completion.max_cost) is kept by one process: set engine = local; "
            "--dry-run says beforehand what completion may cost"
        )


def complete_spread(
    samples: Sequence[Sample],
    settings: PairsSettings,
    store: AnswerStore,
    engine: RayEngine,
    advance: Advance,
) -> list[Outcome]:
    """The outcome of every sample, in their order; answers end in ``store``, also those of a run that was killed.

    Raises what ``complete`` raises.
    """
    parts = store.path.parent / PARTS
    for left in sorted(parts.glob("*.jsonl")):
        store.absorb(left)
    blocks = Lazily(
        -(-len(samples) // SAMPLES), lambda number: samples[number * SAMPLES : (number + 1) * SAMPLES]
    )
    outcomes: dict[int, list[Outcome]] = {}
    make = partial(_BlockAnnotator, settings, store.path, parts)
    try:
        for number, (made, part) in engine.run(make, blocks):
            outcomes[number] = made
            store.absorb(part)
            advance(len(made))
    finally:
        for left in sorted(parts.glob("*.jsonl")):
            store.absorb(left)
    return [outcome for number in range(len(blocks)) for outcome in outcomes[number]]


class _BlockAnnotator:
    """Completes a block of samples; answers go into a file of its own as they arrive."""

    def __init__(self, settings: PairsSettings, answers: Path, parts: Path) -> None:
        self._annotator = make_annotator(settings.annotator, settings.completion)
        self._max_tries = settings.max_tries
        self._known = AnswerStore(answers)
        self._parts = parts

    def __call__(self, samples: Sequence[Sample]) -> tuple[list[Outcome], Path]:
        name = hashlib.blake2b(
            "\n".join(sample.id for sample in samples).encode(), digest_size=12
        ).hexdigest()
        part = self._parts / f"{name}.jsonl"
        with PartStore(part, self._known) as store:
            return outcomes_of(samples, self._annotator, self._max_tries, store=store), part


def encode_spread(
    image_paths: Sequence[str | Path],
    settings: PairsSettings,
    spread: Spread,
    advance: Advance,
) -> tuple[EncodedImages, Mapping[str, Any]]:
    """As ``encode_features``, a block of SHARD images at a time, and what there is to say of the encoder.

    Raises ValueError when the workers' encoders differ in what they make of one image.
    """
    cache = settings.out / "cache" / "features"
    blocks = [
        (start // SHARD, [str(path) for path in image_paths[start : start + SHARD]])
        for start in range(0, len(image_paths), SHARD)
    ]
    digests: dict[int, str] = {}
    faults: dict[int, str] = {}
    traits: dict[int, frozenset[Trait]] = {}
    described: Mapping[str, Any] = {}
    behaviours: set[str] = set()
    make = partial(_BlockEncoder, spread.make_encoder, spread.describe, settings.batch_size, cache)
    for _, (behaviour, encoded, said) in spread.engine.run(make, blocks):
        behaviours.add(behaviour)
        digests |= encoded.digests
        faults |= encoded.faults
        traits |= encoded.traits
        described = said
        advance(len(encoded.digests) + len(encoded.faults))
    if len(behaviours) > 1:
        raise ValueError(
            "the workers' encoders make different features of the same image: give them the same kind of device, "
            "package versions and dtype"
        )
    rows = FeatureCache(cache / behaviours.pop())
    ordered = {number: digests[number] for number in sorted(digests)}
    return replace(collect(rows, ordered, faults), traits=traits), described


class _BlockEncoder:
    """Encodes a block of images into a shard of the folder that all workers share."""

    def __init__(
        self,
        make_encoder: Callable[[], Encoder],
        describe: Callable[[Encoder], Mapping[str, Any]],
        batch_size: int,
        cache: Path,
    ) -> None:
        self._encoder = make_encoder()
        self._describe = describe
        self._batch_size = batch_size
        self._behaviour = behaviour_of(self._encoder)
        self._rows = FeatureCache(cache / self._behaviour)

    def __call__(self, block: tuple[int, list[str]]) -> tuple[str, BlockEncoded, Mapping[str, Any]]:
        number, paths = block
        encoded = encode_block(number, paths, self._encoder, self._rows, self._batch_size)
        return self._behaviour, encoded, self._describe(self._encoder)
