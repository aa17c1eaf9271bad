"""Images -> L2-normalised features, by any encoder; what cannot be encoded is set aside by name."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pairuni.io.images import ImageError, Trait, decode, read_bytes, traits_of
from pairuni.pairug.selection.feature_cache import FeatureCache

Encoder = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""RGB images -> features [N, D], not necessarily normalised."""

GRID = 2.0**-26
"""Normalised features are multiples of this. A product of two is one of 2^-52 and sums of them stay below 2,
so cosines are exact in float64 whatever the order of summation: equal images tie on every machine."""


SHARD = 1024
"""Images of a block: encoded together, kept in one shard; what a killed run encodes again at most."""
_DECODERS = 4
_ROWS = 8192


@dataclass(frozen=True)
class EncodedImages:
    """features: [M, D], L2-normalised; row m is image number ``kept[m]`` of those given.

    digests: content of each kept image, equal for copies. faults: image number -> why it was set aside.
    traits: image number -> what its RGB leaves out, of those of which it leaves out something.
    """

    features: NDArray[np.float32]
    kept: list[int]
    digests: list[str]
    faults: dict[int, str]
    traits: dict[int, frozenset[Trait]] = field(default_factory=dict)

    def distinct_traits(self) -> list[frozenset[Trait]]:
        """Of each kept image once, of which its RGB leaves out something."""
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


def on_grid(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Features in float64 on GRID, whoever made them."""
    return np.rint(features.astype(np.float64) / GRID) * GRID


def encode_features(
    image_paths: Sequence[str | Path],
    encoder: Encoder,
    *,
    batch_size: int,
    cache: Path | None = None,
    advance: Callable[[int], None] | None = None,
) -> EncodedImages:
    """Features of images, in the order given; copies of one image have one row of features to share.

    cache: folder that keeps features by content of the image and behaviour of the encoder. Images are encoded
    in blocks of SHARD, cut into batches the same way whatever the cache holds, so a run that goes on gives the
    features of one that was not stopped. advance: called with the number of images done.
    """
    rows = FeatureCache(cache / behaviour_of(encoder) if cache else None)
    digests: dict[int, str] = {}
    faults: dict[int, str] = {}
    traits: dict[int, frozenset[Trait]] = {}
    for number, opened in _encode_blocks(image_paths, encoder, rows, batch_size, _blocks_of(image_paths)):
        _note(number, opened, digests, faults, traits)
        if advance is not None:
            advance(1)
    return replace(collect(rows, digests, faults), traits=traits)


def encode_share(
    image_paths: Sequence[str | Path],
    encoder: Encoder,
    *,
    batch_size: int,
    cache: Path,
    rank: int,
    world_size: int,
    advance: Callable[[int], None] | None = None,
) -> dict[int, str]:
    """Encode every ``world_size``-th block of images, from block ``rank`` on, into ``cache``; see encode_features.

    Processes that each take a rank share nothing but the folder. What they leave there is what one process
    would have left: ``encode_features`` of the same images then encodes nothing. Returns the faults by number.
    """
    rows = FeatureCache(cache / behaviour_of(encoder))
    faults: dict[int, str] = {}
    mine = range(rank, len(_blocks_of(image_paths)), world_size)
    for number, opened in _encode_blocks(image_paths, encoder, rows, batch_size, mine):
        if opened.fault is not None:
            faults[number] = opened.fault
        if advance is not None:
            advance(1)
    return faults


@dataclass(frozen=True)
class BlockEncoded:
    """Of one block of images, by number: digests of those whose features are kept, why others were set aside, and
    what the RGB of some leaves out."""

    digests: dict[int, str]
    faults: dict[int, str]
    traits: dict[int, frozenset[Trait]]


def encode_block(
    block: int, paths: Sequence[str | Path], encoder: Encoder, rows: FeatureCache, batch_size: int
) -> BlockEncoded:
    """Encode the images of one block, whose paths are given, into ``rows``; see ``encode_share``."""
    made = BlockEncoded({}, {}, {})
    with ThreadPoolExecutor(_DECODERS) as decoders:
        for number, opened in _encode_block(block, paths, encoder, rows, batch_size, decoders):
            _note(number, opened, made.digests, made.faults, made.traits)
    return made


@dataclass(frozen=True)
class _Opened:
    """A file's digest, its image where no features of it are kept, and what is wrong with it."""

    digest: str = ""
    image: Image.Image | None = None
    traits: frozenset[Trait] = frozenset()
    fault: str | None = None


def _note(
    number: int,
    opened: _Opened,
    digests: dict[int, str],
    faults: dict[int, str],
    traits: dict[int, frozenset[Trait]],
) -> None:
    if opened.fault is not None:
        faults[number] = opened.fault
        return
    digests[number] = opened.digest
    if opened.traits:
        traits[number] = opened.traits


def images_of_share(images: int, rank: int, world_size: int) -> int:
    """How many of so many images the process of this rank encodes."""
    return sum(min(SHARD, images - first) for first in range(rank * SHARD, images, world_size * SHARD))


def _blocks_of(image_paths: Sequence[str | Path]) -> range:
    """Numbers of the blocks of these images."""
    return range(-(-len(image_paths) // SHARD))


def _encode_blocks(
    image_paths: Sequence[str | Path],
    encoder: Encoder,
    rows: FeatureCache,
    batch_size: int,
    blocks: Sequence[int],
) -> Iterator[tuple[int, _Opened]]:
    """Number and what is known of each image of the blocks, whose features are then in ``rows``."""
    with ThreadPoolExecutor(_DECODERS) as decoders:
        for block in blocks:
            paths = image_paths[block * SHARD : (block + 1) * SHARD]
            yield from _encode_block(block, paths, encoder, rows, batch_size, decoders)


def _encode_block(
    block: int,
    paths: Sequence[str | Path],
    encoder: Encoder,
    rows: FeatureCache,
    batch_size: int,
    decoders: ThreadPoolExecutor,
) -> Iterator[tuple[int, _Opened]]:
    first = block * SHARD
    fresh: dict[str, NDArray[np.float32]] = {}
    batch: dict[str, Image.Image | Path] = {}
    seen: set[str] = set()
    opening: deque[Future[_Opened]] = deque()
    for place in range(len(paths)):
        while len(opening) < batch_size and place + len(opening) < len(paths):
            opening.append(decoders.submit(_open, Path(paths[place + len(opening)]), rows))
        opened = opening.popleft().result()
        if opened.fault is None and opened.digest not in seen:
            seen.add(opened.digest)
            batch[opened.digest] = Path(paths[place]) if opened.image is None else opened.image
            if len(batch) == batch_size:
                _encode_batch(batch, encoder, rows, fresh)
        yield first + place, opened
    _encode_batch(batch, encoder, rows, fresh)
    if fresh:
        rows.add(block, list(fresh), np.stack(list(fresh.values())))


def _open(path: Path, rows: FeatureCache) -> _Opened:
    try:
        data = read_bytes(path)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if digest in rows:
            return _Opened(digest, traits=traits_of(data))
        decoded = decode(data)
        return _Opened(digest, decoded.image, decoded.traits)
    except ImageError as error:
        return _Opened(fault=error.reason)


def _encode_batch(
    batch: dict[str, Image.Image | Path],
    encoder: Encoder,
    rows: FeatureCache,
    fresh: dict[str, NDArray[np.float32]],
) -> None:
    """Into ``fresh``, and empty the batch. One of which all is kept is not encoded; of others, all is."""
    if not all(digest in rows for digest in batch):
        images = [decode(read_bytes(one)).image if isinstance(one, Path) else one for one in batch.values()]
        fresh.update(zip(batch, _encode(images, encoder), strict=True))
    batch.clear()


def _encode(images: list[Image.Image], encoder: Encoder) -> NDArray[np.float32]:
    made = np.asarray(encoder(images), dtype=np.float32)
    if made.ndim != 2 or len(made) != len(images):
        raise ValueError(f"the encoder gave shape {made.shape} for {len(images)} images; it must give [N, D]")
    return made


def behaviour_of(encoder: Encoder) -> str:
    """A digest of what the encoder makes of one image, and the opener of a file: other weights, preprocessing or
    rules of transparency and orientation, another digest."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    made = hashlib.blake2b(_encode([Image.fromarray(noise)], encoder).tobytes(), digest_size=8)
    made.update(_lying_and_transparent().tobytes())
    return made.hexdigest()


def _lying_and_transparent() -> Image.Image:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 128))
    picture.putpixel((0, 0), (255, 0, 0, 255))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = BytesIO()
    picture.save(file, "PNG", exif=exif)
    return decode(file.getvalue()).image


def _has_direction(lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isfinite(lengths) & (lengths > 0)


def collect(rows: FeatureCache, digests: dict[int, str], faults: dict[int, str]) -> EncodedImages:
    """Features of the images whose digests are given by number, in that order, from ``rows``."""
    numbers = list(digests)
    features = np.zeros((0, 1), np.float32)
    kept: list[int] = []
    for start in range(0, len(numbers), _ROWS):
        block = numbers[start : start + _ROWS]
        raw = rows.gather([digests[number] for number in block])
        good = _has_direction(np.linalg.norm(raw.astype(np.float64), axis=1))
        if not start:
            features = np.empty((len(numbers), raw.shape[1]), np.float32)
        chosen = [number for number, right in zip(block, good, strict=True) if right]
        features[len(kept) : len(kept) + len(chosen)] = l2_normalise(raw[good])
        kept += chosen
        for number in np.array(block)[~good].tolist():
            faults[number] = "has a feature without a direction (zero or not finite)"
    return EncodedImages(features[: len(kept)], kept, [digests[number] for number in kept], faults)
