"""Images -> L2-normalised features, by any encoder. Images that cannot be encoded are reported by number."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pairuni.io.images import ImageError, Trait, decode, read_bytes, traits_of
from pairuni.pairug.selection.encoders import Encoder, describe_encoder
from pairuni.pairug.selection.feature_cache import FeatureCache

GRID = 2.0**-26
"""Normalised features are multiples of this. A product of two is one of 2^-52 and sums of them stay below 2,
so cosines are exact in float64 in any order of summation, and equal images tie on every machine."""

SHARD = 1024
"""Images per block. A block is encoded together and cached as one shard; a killed run loses at most one."""
_DECODERS = 4
_ROWS = 8192


Block = tuple[int, Sequence[str | Path]]
"""Number of a block, and the paths of its images; image i of block b has the number b * SHARD + i."""


@dataclass
class EncodedFiles:
    """Facts about image files by number: content digest, why one cannot be used, what its RGB conversion changes.

    encoder: description of the encoder that made the features; empty for custom encoders.
    """

    digests: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    traits: dict[int, frozenset[Trait]] = field(default_factory=dict)
    encoder: Mapping[str, str] = field(default_factory=dict)

    def update(self, other: EncodedFiles) -> None:
        """Add the files of ``other``."""
        self.digests |= other.digests
        self.faults |= other.faults
        self.traits |= other.traits
        self.encoder = other.encoder


@dataclass(frozen=True)
class EncodedImages:
    """features: [M, D], L2-normalised; row m is image number ``kept[m]`` of the input.

    digests: content of each kept image, equal for copies. faults: image number -> why it cannot be used.
    traits: image number -> what its RGB conversion changes, for images that it changes.
    encoder: its description.
    """

    features: NDArray[np.float32]
    kept: list[int]
    digests: list[str]
    faults: dict[int, str]
    traits: dict[int, frozenset[Trait]]
    encoder: Mapping[str, str]

    def distinct_traits(self) -> list[frozenset[Trait]]:
        """The traits of each distinct kept image that has any."""
        of_digest = {
            digest: self.traits[number]
            for number, digest in zip(self.kept, self.digests, strict=True)
            if number in self.traits
        }
        return list(of_digest.values())


def l2_normalise(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [N, D] of unit length, on GRID. Raises ValueError when a row is zero or not finite."""
    normalised = np.empty(features.shape, dtype=np.float32)
    bad: list[int] = []
    for start in range(0, len(features), _ROWS):
        block = features[start : start + _ROWS].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1, keepdims=True)
        bad += (np.flatnonzero(~_has_direction(lengths[:, 0])) + start).tolist()
        if not bad:
            normalised[start : start + _ROWS] = on_grid(features[start : start + _ROWS] / lengths)
    if bad:
        raise ValueError(
            f"{len(bad)} features have no direction (zero or not finite), the first in row {bad[0]}"
        )
    return normalised


@dataclass(frozen=True)
class EncodedSamples:
    """Features of samples: of one image its own, of several ``mean_direction``.

    features: [M, D], L2-normalised; row m is sample number ``kept[m]``. digests: those of its images. faults: sample
    number -> the number of its first image that cannot be used, and why.
    """

    features: NDArray[np.float32]
    kept: list[int]
    digests: list[tuple[str, ...]]
    faults: dict[int, tuple[int, str]]


def of_samples(images: EncodedImages, counts: Sequence[int]) -> EncodedSamples:
    """The features of samples from those of all their images, in order. counts: how many each sample has."""
    if all(count == 1 for count in counts):
        alone = {number: (0, reason) for number, reason in images.faults.items()}
        return EncodedSamples(images.features, images.kept, [(one,) for one in images.digests], alone)
    row_of = dict(zip(images.kept, range(len(images.kept)), strict=True))
    found = EncodedSamples(np.empty((len(counts), images.features.shape[1]), np.float32), [], [], {})
    start = 0
    for sample, count in enumerate(counts):
        numbers = range(start, start + count)
        start += count
        bad = next((number for number in numbers if number not in row_of), None)
        if bad is not None:
            found.faults[sample] = bad - numbers.start, images.faults[bad]
            continue
        own = [row_of[number] for number in numbers]
        feature = mean_direction(images.features[own])
        if not feature.any():
            found.faults[sample] = 0, "has a feature that those of the other images cancel out"
            continue
        found.features[len(found.kept)] = feature if count == 1 else l2_normalise(feature[None])[0]
        found.kept.append(sample)
        found.digests.append(tuple(images.digests[row] for row in own))
    return replace(found, features=found.features[: len(found.kept)])


def mean_direction(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The feature [D] of the images of one question, from theirs [K, D]: the mean of the unit vectors.

    Of one image it is its feature, unchanged. Opposite images can make it zero.
    """
    if len(features) == 1:
        return features[0]
    rows = features.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    mean: NDArray[np.float32] = (rows / np.maximum(lengths, 1e-12)).mean(axis=0).astype(np.float32)
    return mean


def on_grid(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features rounded to GRID, in float64."""
    return np.rint(features.astype(np.float64) / GRID) * GRID


def encode_features(
    image_paths: Sequence[str | Path],
    encoder: Encoder,
    *,
    batch_size: int,
    cache: Path,
    advance: Callable[[int], None] | None = None,
) -> EncodedImages:
    """Features of images, in input order; copies of one image share one row of the cache.

    cache: folder that keeps features, keyed by image content and encoder behaviour.
    advance: called with the number of images done since the last call.
    """
    rows = FeatureCache(cache / behaviour_of(encoder))
    return collect(rows, encode_blocks(blocks_of(image_paths), encoder, rows, batch_size, advance))


def blocks_of(image_paths: Sequence[str | Path]) -> Iterator[Block]:
    """The images in blocks of SHARD."""
    for number, start in enumerate(range(0, len(image_paths), SHARD)):
        yield number, image_paths[start : start + SHARD]


def encode_blocks(
    blocks: Iterable[Block],
    encoder: Encoder,
    rows: FeatureCache,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> EncodedFiles:
    """Encode the images of some blocks into ``rows``.

    A block is cut into the same batches for any content of the cache, so a resumed run, or several processes
    that each take some of the blocks, produce the features of one uninterrupted process.
    """
    found = EncodedFiles()
    with ThreadPoolExecutor(_DECODERS) as decoders:
        for block in blocks:
            for number, file in _encode_block(block, encoder, rows, batch_size, decoders):
                if file.fault is not None:
                    found.faults[number] = file.fault
                else:
                    found.digests[number] = file.digest
                    if file.traits:
                        found.traits[number] = file.traits
                if advance is not None:
                    advance(1)
    found.encoder = describe_encoder(encoder)
    return found


@dataclass(frozen=True)
class _File:
    """An image file: its digest, its image unless its features are cached, and its fault."""

    digest: str = ""
    image: Image.Image | None = None
    traits: frozenset[Trait] = frozenset()
    fault: str | None = None


def _encode_block(
    block: Block, encoder: Encoder, rows: FeatureCache, batch_size: int, decoders: ThreadPoolExecutor
) -> Iterator[tuple[int, _File]]:
    """Every image's number and file. The features are in ``rows`` when the iterator ends."""
    number, paths = block
    fresh: dict[str, NDArray[np.float32]] = {}
    batch: dict[str, Image.Image | Path] = {}
    seen: set[str] = set()
    opening: deque[Future[_File]] = deque()
    for place in range(len(paths)):
        while len(opening) < batch_size and place + len(opening) < len(paths):
            opening.append(decoders.submit(_open, Path(paths[place + len(opening)]), rows))
        file = opening.popleft().result()
        if file.fault is None and file.digest not in seen:
            seen.add(file.digest)
            batch[file.digest] = Path(paths[place]) if file.image is None else file.image
            if len(batch) == batch_size:
                _encode_batch(batch, encoder, rows, fresh)
        yield number * SHARD + place, file
    _encode_batch(batch, encoder, rows, fresh)
    if fresh:
        rows.add(number, list(fresh), np.stack(list(fresh.values())))


def _open(path: Path, rows: FeatureCache) -> _File:
    try:
        data = read_bytes(path)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if digest in rows:
            return _File(digest, traits=traits_of(data))
        decoded = decode(data)
        return _File(digest, decoded.image, decoded.traits)
    except ImageError as error:
        return _File(fault=error.reason)


def _encode_batch(
    batch: dict[str, Image.Image | Path],
    encoder: Encoder,
    rows: FeatureCache,
    fresh: dict[str, NDArray[np.float32]],
) -> None:
    """Encode the batch into ``fresh`` and empty it. A batch is skipped only when all of it is cached."""
    if not all(digest in rows for digest in batch):
        images = [decode(read_bytes(one)).image if isinstance(one, Path) else one for one in batch.values()]
        fresh.update(zip(batch, _encode(images, encoder), strict=True))
    batch.clear()


def _encode(images: list[Image.Image], encoder: Encoder) -> NDArray[np.float32]:
    made = np.asarray(encoder(images), dtype=np.float32)
    if made.ndim != 2 or len(made) != len(images):
        raise ValueError(
            f"the encoder returned shape {made.shape} for {len(images)} images; it must return [N, D]"
        )
    return made


def behaviour_of(encoder: Encoder) -> str:
    """A digest of the encoder's output for one fixed image, and of how that image is decoded.

    Other weights, preprocessing, or rules for transparency and orientation give another digest.
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    made = hashlib.blake2b(_encode([Image.fromarray(noise)], encoder).tobytes(), digest_size=8)
    made.update(_rotated_and_transparent().tobytes())
    return made.hexdigest()


def _rotated_and_transparent() -> Image.Image:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 128))
    image.putpixel((0, 0), (255, 0, 0, 255))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = BytesIO()
    image.save(file, "PNG", exif=exif)
    return decode(file.getvalue()).image


def _has_direction(lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(lengths) & (lengths > 0)


def collect(rows: FeatureCache, files: EncodedFiles) -> EncodedImages:
    """Features of the files that have a digest, by number, from ``rows``."""
    numbers = sorted(files.digests)
    faults = dict(files.faults)
    features = np.zeros((0, 1), np.float32)
    kept: list[int] = []
    for start in range(0, len(numbers), _ROWS):
        block = numbers[start : start + _ROWS]
        raw = rows.gather([files.digests[number] for number in block])
        good = _has_direction(np.linalg.norm(raw.astype(np.float64), axis=1))
        if not start:
            features = np.empty((len(numbers), raw.shape[1]), np.float32)
        chosen = [number for number, right in zip(block, good, strict=True) if right]
        features[len(kept) : len(kept) + len(chosen)] = l2_normalise(raw[good])
        kept += chosen
        for number in np.array(block)[~good].tolist():
            faults[number] = "has a feature without a direction (zero or not finite)"
    digests = [files.digests[number] for number in kept]
    return EncodedImages(features[: len(kept)], kept, digests, faults, files.traits, files.encoder)
