"""Splits a corpus that is too large for one build into parts of similar images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from pairuni.config import PairsSettings, to_toml
from pairuni.io.files import atomic_folder, write_text
from pairuni.pairug.completion.dialogue import Sample, origin_of
from pairuni.pairug.dataset.folder import DROPPED
from pairuni.pairug.jsonl import dump
from pairuni.pairug.raw_data import read_raw
from pairuni.pairug.selection.encoders import Encoder
from pairuni.pairug.selection.feature_cache import FeatureCache
from pairuni.pairug.selection.features import (
    SHARD,
    EncodedFiles,
    EncodedSamples,
    behaviour_of,
    collect,
    encode_blocks,
    of_samples,
)
from pairuni.pairug.selection.kmeans import fit_kmeans
from pairuni.pairug.stages import feature_folder
from pairuni.records import Origin

PARTS, RECIPE = "parts", "build.toml"
SAMPLE = 65_536
"""Number of samples that the parts' centres are fitted to; 64 per part if that is more."""
ROOT = Path("/")
"""Image paths in a part's files are relative to this folder: the images stay in place."""

Sizes = list[Counter[Origin]]
"""Per part, the number of samples of each corpus."""


def split_raw(
    settings: PairsSettings, encoder: Encoder, parts: int, advance: Callable[[int, int], None] | None = None
) -> Sizes:
    """Split the raw data into at most ``parts`` builds: folders OUT/parts/000, ... with their data and build.toml.

    Each sample goes to the part whose k-means centre is nearest, with its features, so that a part's build encodes
    nothing. Samples without a usable image go to the first part, which reports them. Centres that attract samples of
    only one corpus are removed. Memory: the features of SAMPLE samples, then of one shard per part. advance: called
    with the samples done since the last call and their total. Raises ValueError, also for settings that cannot be
    split.
    """
    if settings.completion.max_calls is not None or settings.completion.max_cost is not None:
        raise ValueError(
            "a budget applies to one build: split without completion.max_calls and max_cost and set them for each part"
        )
    target = settings.out / PARTS
    if target.exists():
        raise ValueError(f"{target} exists already; remove it to split again")
    raw = read_raw(settings, settings.out / "images", settings.out / "cache")
    blocks = _Blocks(raw.samples, encoder, settings.batch_size, feature_folder(settings.out))
    blocks.encode(advance)
    centres = _shared(blocks, _centres(blocks, parts, settings.seed))
    with atomic_folder(target) as temporary:
        writer = _Writer(temporary, len(centres), blocks.behaviour)
        for number in range(len(blocks)):
            samples, encoded = blocks.samples(number), blocks.features(number)
            own = np.zeros(len(samples), np.int64)
            own[encoded.kept] = _nearest(encoded.features, centres)
            writer.add(samples, own)
            digests = [digest for several in encoded.digests for digest in several]
            parts_of = np.repeat(own[encoded.kept], [len(several) for several in encoded.digests])
            writer.keep(parts_of, digests, blocks.raw(digests))
        sizes = writer.close()
        for part, size in enumerate(sizes):
            share = size.total() / len(raw.samples)
            write_text(
                temporary / _name(part) / RECIPE, to_toml(_settings_of(settings, target / _name(part), share))
            )
        write_text(
            temporary / DROPPED,
            "".join(dump({"id": one.id, "reason": one.reason}) + "\n" for one in raw.dropped),
        )
    return sizes


class _Blocks:
    """The samples in blocks of SHARD, with their features from the cache once ``encode`` has run."""

    def __init__(self, samples: Sequence[Sample], encoder: Encoder, batch_size: int, cache: Path) -> None:
        self.behaviour = behaviour_of(encoder)
        self._samples, self._encoder, self._batch_size = samples, encoder, batch_size
        self._rows = FeatureCache(cache / self.behaviour)
        self._digests: list[NDArray[np.bytes_]] = []
        self._counts: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return -(-len(self._samples) // SHARD)

    def encode(self, advance: Callable[[int, int], None] | None) -> None:
        """Encode all images; advance: called with the samples done since the last call and their total."""
        for number in range(len(self)):
            samples = self.samples(number)
            paths = [path for one in samples for path in one.image_paths]
            found = encode_blocks([(number, paths)], self._encoder, self._rows, self._batch_size)
            digests = np.zeros(len(paths), "S32")
            for place, digest in found.digests.items():
                digests[place - number * SHARD] = digest.encode()
            self._digests.append(digests)
            self._counts.append(np.array([len(one.image_paths) for one in samples]))
            if advance is not None:
                advance(len(samples), len(self._samples))

    def samples(self, number: int) -> Sequence[Sample]:
        return self._samples[number * SHARD : (number + 1) * SHARD]

    def features(self, number: int) -> EncodedSamples:
        """Normalised features of the block's samples whose images are usable."""
        digests = self._digests[number].astype(str).tolist()
        usable = {place: digest for place, digest in enumerate(digests) if digest}
        faults = {place: "cannot be used" for place, digest in enumerate(digests) if not digest}
        return of_samples(collect(self._rows, EncodedFiles(usable, faults)), self._counts[number].tolist())

    def raw(self, digests: Sequence[str]) -> NDArray[np.float32]:
        """Features as the encoder made them."""
        return self._rows.gather(digests)


def _centres(blocks: _Blocks, parts: int, seed: int) -> NDArray[np.float32]:
    """k-means centres of some of the blocks, evenly spaced over both corpora."""
    wanted = min(len(blocks), max(1, max(SAMPLE, 64 * parts) // SHARD))
    chosen = np.unique(np.linspace(0, len(blocks) - 1, wanted).round().astype(int)).tolist()
    features = np.concatenate([blocks.features(number).features for number in chosen])
    return fit_kmeans(features, min(parts, len(features)), seed).centres


def _shared(blocks: _Blocks, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """The centres that keep samples of both corpora once the samples of all others have moved to them."""
    while True:
        sizes = _sizes(blocks, centres)
        both = np.array([size["understanding"] > 0 < size["generation"] for size in sizes])
        if both.all():
            return centres
        if not both.any():
            raise ValueError("no part contains images of both corpora; use fewer parts")
        centres = centres[both]


def _sizes(blocks: _Blocks, centres: NDArray[np.float32]) -> Sizes:
    sizes: Sizes = [Counter() for _ in centres]
    for number in range(len(blocks)):
        samples, encoded = blocks.samples(number), blocks.features(number)
        for place, part in zip(encoded.kept, _nearest(encoded.features, centres).tolist(), strict=True):
            sizes[part][origin_of(samples[place])] += 1
    return sizes


def _nearest(features: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    scores = np.square(centres).sum(1) - 2 * features @ centres.T
    return np.asarray(scores.argmin(1), dtype=np.int64)


class _Writer:
    """Writes samples and features to the folders of their parts."""

    def __init__(self, folder: Path, parts: int, behaviour: str) -> None:
        self._files: list[dict[Origin, TextIO]] = []
        self._caches = []
        self._waiting: list[dict[str, NDArray[np.float32]]] = [{} for _ in range(parts)]
        self._sizes: Sizes = [Counter() for _ in range(parts)]
        self._shards = Counter[int]()
        for part in range(parts):
            own = folder / _name(part)
            own.mkdir()
            self._files.append(
                {
                    "understanding": (own / "understanding.jsonl").open("w", encoding="utf-8"),
                    "generation": (own / "generation.jsonl").open("w", encoding="utf-8"),
                }
            )
            self._caches.append(FeatureCache(own / "cache" / "features" / behaviour))

    def add(self, samples: Sequence[Sample], own: NDArray[np.int64]) -> None:
        """Write samples, each to its part in ``own``."""
        for sample, part in zip(samples, own.tolist(), strict=True):
            self._files[part][origin_of(sample)].write(_line(sample))
            self._sizes[part][origin_of(sample)] += 1

    def keep(self, own: NDArray[np.int64], digests: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Write rows of features under their digests, each to its part in ``own``."""
        for part, digest, row in zip(own.tolist(), digests, rows, strict=True):
            self._waiting[part][digest] = row
            if len(self._waiting[part]) == SHARD:
                self._flush(part)

    def close(self) -> Sizes:
        for part, files in enumerate(self._files):
            self._flush(part)
            for file in files.values():
                file.close()
        return self._sizes

    def _flush(self, part: int) -> None:
        waiting = self._waiting[part]
        if waiting:
            self._caches[part].add(self._shards[part], list(waiting), np.stack(list(waiting.values())))
            self._shards[part] += 1
            self._waiting[part] = {}


def _line(sample: Sample) -> str:
    paths = [str(Path(path).resolve().relative_to(ROOT)) for path in sample.image_paths]
    values = sample.with_images(paths).model_dump()
    values.pop("options", None)  # the question has its letters by now
    return dump(values) + "\n"


def _settings_of(settings: PairsSettings, folder: Path, share: float) -> PairsSettings:
    clusters = None if settings.clusters is None else max(1, round(share * settings.clusters))
    inputs = {side: [f"{folder / side}.jsonl?images={ROOT}"] for side in ("understanding", "generation")}
    return settings.model_copy(update={**inputs, "out": folder, "clusters": clusters})


def _name(part: int) -> str:
    return f"{part:03d}"
