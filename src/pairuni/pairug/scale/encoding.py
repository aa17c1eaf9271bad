"""Encodes the images of raw data ahead of a build, in one process or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from pairuni.config import PairsSettings
from pairuni.distributed.shares import Share
from pairuni.io.locks import exclusive_lock
from pairuni.pairug.raw_data import read_raw
from pairuni.pairug.selection.encoders import Encoder
from pairuni.pairug.selection.feature_cache import FeatureCache
from pairuni.pairug.selection.features import behaviour_of, blocks_of, encode_blocks
from pairuni.pairug.stages import feature_folder


@dataclass(frozen=True)
class EncodedShare:
    """images: number of images in this process's share. faults: path -> why an image cannot be used."""

    images: int
    faults: dict[str, str]


def encode_raw(
    settings: PairsSettings,
    encoder: Encoder,
    share: Share,
    advance: Callable[[int, int], None] | None = None,
) -> EncodedShare:
    """Encode this process's share of the raw data's images into the feature cache of the build.

    The processes share only the folder. They read the raw data one after another, because reading may write images
    to it, and encode at the same time, each every ``world_size``-th block. A stopped process resumes. advance:
    called with the images done since the last call and the share's total. Raises what ``read_raw`` raises.
    """
    cache = settings.out / "cache"
    with exclusive_lock(cache / "reading.lock"):
        raw = read_raw(settings, settings.out / "images", cache)
    paths = [path for sample in raw.samples for path in sample.image_paths]
    blocks = list(islice(blocks_of(paths), share.rank, None, share.world_size))
    total = sum(len(images) for _, images in blocks)
    found = encode_blocks(
        blocks,
        encoder,
        FeatureCache(feature_folder(settings.out) / behaviour_of(encoder)),
        settings.batch_size,
        None if advance is None else lambda done: advance(done, total),
    )
    return EncodedShare(total, {paths[number]: fault for number, fault in sorted(found.faults.items())})
