"""Images -> L2-normalised features, by any encoder; what cannot be encoded is set aside by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairuni.pairug.feature_cache import FeatureCache
from pairuni.pairug.images import ImageError, decode_image, read_bytes

Encoder = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""RGB images -> features [N, D], not necessarily normalised."""

GRID = 2.0**-26
"""Normalised features are multiples of this. A product of two is one of 2^-52 and sums of them stay below 2,
so cosines are exact in float64 whatever the order of summation: equal images tie on every machine."""


@dataclass(frozen=True)
class EncodedImages:
    """features: [M, D], L2-normalised; row m is image number ``kept[m]`` of those given.

    digests: content of each kept image, equal for copies. faults: image number -> why it was set aside.
    """

    features: NDArray[np.float32]
    kept: list[int]
    digests: list[str]
    faults: dict[int, str]


def l2_normalise(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows [N, D] of unit length, on GRID. Raises ValueError when a row is zero or not finite."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise ValueError(
            f"{len(bad)} features have no direction (zero or not finite), the first in row {bad[0]}"
        )
    return on_grid(features / lengths).astype(np.float32)


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
    """Features of images, in the order given; copies of one image are encoded once.

    cache: folder that keeps features by content of the image and behaviour of the encoder; batches are cut
    the same way whatever it holds, so a run that goes on gives the features of one that was not stopped.
    advance: called with the number of images done.
    """
    rows = FeatureCache(cache / _behaviour(encoder) if cache else None)
    digests: dict[int, str] = {}
    faults: dict[int, str] = {}
    batch: dict[str, bytes] = {}
    seen: set[str] = set()

    def encode_batch() -> None:
        if not all(digest in rows for digest in batch):
            made = _encode([decode_image(data) for data in batch.values()], encoder)
            for digest, row in zip(batch, made, strict=True):
                if digest not in rows:
                    rows.add(digest, row)
        batch.clear()

    for number, path in enumerate(image_paths):
        try:
            data = read_bytes(Path(path))
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            if digest not in seen:
                if digest not in rows:
                    decode_image(data)
                batch[digest] = data
                seen.add(digest)
            digests[number] = digest
        except ImageError as error:
            faults[number] = str(error)
        if len(batch) == batch_size:
            encode_batch()
        if advance is not None:
            advance(1)
    if batch:
        encode_batch()
    rows.flush()
    return _collect(rows, digests, faults)


def _encode(images: list[Image.Image], encoder: Encoder) -> NDArray[np.float32]:
    made = np.asarray(encoder(images), dtype=np.float32)
    if made.ndim != 2 or len(made) != len(images):
        raise ValueError(f"the encoder gave shape {made.shape} for {len(images)} images; it must give [N, D]")
    return made


def _behaviour(encoder: Encoder) -> str:
    """A digest of what the encoder makes of one picture: other weights or preprocessing, another digest."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return hashlib.blake2b(_encode([Image.fromarray(noise)], encoder).tobytes(), digest_size=8).hexdigest()


def _collect(rows: FeatureCache, digests: dict[int, str], faults: dict[int, str]) -> EncodedImages:
    kept = []
    for number, digest in digests.items():
        length = float(np.linalg.norm(rows[digest].astype(np.float64)))
        if np.isfinite(length) and length > 0:
            kept.append(number)
        else:
            faults[number] = "has a feature without a direction (zero or not finite)"
    features = np.stack([rows[digests[number]] for number in kept]) if kept else np.zeros((0, 1), np.float32)
    return EncodedImages(l2_normalise(features), kept, [digests[number] for number in kept], faults)
