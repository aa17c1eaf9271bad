"""The stages of a build on the workers of an engine. The results are those of one process.

Workers exchange files in the data set's folder ``cache``, which all machines must see under the same path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pairuni.config import PairsSettings
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore, PartStore
from pairuni.pairug.completion.completion import outcomes_of
from pairuni.pairug.completion.dialogue import Outcome, Sample
from pairuni.pairug.engine import Engine
from pairuni.pairug.record_file import Lazily
from pairuni.pairug.selection.encoders import Encoder
from pairuni.pairug.selection.feature_cache import FeatureCache
from pairuni.pairug.selection.features import (
    Block,
    EncodedFiles,
    EncodedImages,
    behaviour_of,
    blocks_of,
    collect,
    encode_blocks,
)
from pairuni.pairug.stages import Advance, feature_folder

SAMPLES = 64
"""Samples per block of completion. A worker that dies loses the answers in flight for one block, none stored."""
PARTS = "parts"


def check_distributed(settings: PairsSettings) -> None:
    """Raise ValueError for settings that only one process supports, unless the engine is local."""
    if settings.engine == "local":
        return
    if settings.annotator == "batch":
        raise ValueError("annotator = batch works on files of one process: set engine = local")
    if settings.completion.max_calls is not None or settings.completion.max_cost is not None:
        raise ValueError(
            "a budget (completion.max_calls, completion.max_cost) is kept by one process: set engine = local; "
            "--dry-run says beforehand what completion may cost"
        )


class DistributedStages:
    """``Stages`` on the workers of ``engine``. make_encoder: called once by each worker."""

    def __init__(self, settings: PairsSettings, engine: Engine, make_encoder: Callable[[], Encoder]) -> None:
        self.engine = engine
        self._settings, self._make_encoder = settings, make_encoder

    def complete(self, samples: Sequence[Sample], store: AnswerStore, advance: Advance) -> list[Outcome]:
        """The outcome of every sample, in order. ``store`` also receives the answers that a killed run left."""
        parts = store.path.parent / PARTS
        _absorb(parts, store)
        blocks = Lazily(
            -(-len(samples) // SAMPLES), lambda number: samples[number * SAMPLES : (number + 1) * SAMPLES]
        )
        outcomes: dict[int, list[Outcome]] = {}
        make = partial(_BlockAnnotator, self._settings, store.path, parts)
        try:
            for number, (made, part) in self.engine.run(make, blocks):
                outcomes[number] = made
                store.absorb(part)
                advance(len(made))
        finally:
            _absorb(parts, store)
        return [outcome for number in range(len(blocks)) for outcome in outcomes[number]]

    def encode(self, image_paths: Sequence[str], advance: Advance) -> EncodedImages:
        """Raises ValueError when the workers' encoders make different features of the same image."""
        cache = feature_folder(self._settings.out)
        found = EncodedFiles()
        behaviours: set[str] = set()
        make = partial(_BlockEncoder, self._make_encoder, self._settings.batch_size, cache)
        for _, (behaviour, files) in self.engine.run(make, list(blocks_of(image_paths))):
            behaviours.add(behaviour)
            found.update(files)
            advance(len(files.digests) + len(files.faults))
        if len(behaviours) > 1:
            raise ValueError(
                "the workers' encoders make different features of the same image: give them the same kind of "
                "device, package versions and dtype"
            )
        return collect(FeatureCache(cache / behaviours.pop()), found)


def _absorb(parts: Path, store: AnswerStore) -> None:
    """Move the answers that workers left in files of their own into ``store``."""
    for left in sorted(parts.glob("*.jsonl")):
        store.absorb(left)


class _BlockAnnotator:
    """Completes a block of samples; stores answers in a file per block as they arrive."""

    def __init__(self, settings: PairsSettings, answers: Path, parts: Path) -> None:
        self._annotator = make_annotator(settings.annotator, settings.completion)
        self._max_tries = settings.max_tries
        self._known = AnswerStore(answers)
        self._parts = parts

    def __call__(self, samples: Sequence[Sample]) -> tuple[list[Outcome], Path]:
        ids = "\n".join(sample.id for sample in samples)
        part = self._parts / f"{hashlib.blake2b(ids.encode(), digest_size=12).hexdigest()}.jsonl"
        with PartStore(part, self._known) as store:
            return outcomes_of(samples, self._annotator, self._max_tries, store=store), part


class _BlockEncoder:
    """Encodes a block of images into the feature cache that all workers share."""

    def __init__(self, make_encoder: Callable[[], Encoder], batch_size: int, cache: Path) -> None:
        self._encoder = make_encoder()
        self._batch_size = batch_size
        self._behaviour = behaviour_of(self._encoder)
        self._rows = FeatureCache(cache / self._behaviour)

    def __call__(self, block: Block) -> tuple[str, EncodedFiles]:
        return self._behaviour, encode_blocks([block], self._encoder, self._rows, self._batch_size)
