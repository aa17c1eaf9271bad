"""The features of raw data as a stage of its own, which several processes may share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pairuni.config import PairsSettings
from pairuni.distributed.shares import Share
from pairuni.io.locks import exclusive_lock
from pairuni.pairug.raw_data import read_raw
from pairuni.pairug.selection.features import Encoder, encode_share, images_of_share


@dataclass(frozen=True)
class EncodedShare:
    """images: that this process was to encode. faults: path -> why it was set aside."""

    images: int
    faults: dict[str, str]


def encode_raw(
    settings: PairsSettings,
    encoder: Encoder,
    share: Share,
    advance: Callable[[int, int], None] | None = None,
) -> EncodedShare:
    """Encode this process's share of all images of the raw data into ``settings.out``, where a build finds them.

    Processes meet only in the folder: they read the raw data one after another, since that may write images
    out, and encode at the same time. One that was stopped goes on by itself. advance: called with the images done
    since the last call and the share's total. Raises what ``read_raw`` raises.
    """
    cache = settings.out / "cache"
    with exclusive_lock(cache / "reading.lock"):
        raw = read_raw(settings, settings.out / "images", cache)
    paths = [sample.image_path for sample in raw.samples]
    total = images_of_share(len(paths), share.rank, share.world_size)
    faults = encode_share(
        paths,
        encoder,
        batch_size=settings.batch_size,
        cache=cache / "features",
        rank=share.rank,
        world_size=share.world_size,
        advance=None if advance is None else lambda done: advance(done, total),
    )
    return EncodedShare(total, {paths[number]: fault for number, fault in sorted(faults.items())})
