"""Encoding: normalised, cached by content, resumed, faults reported by number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pairuni.pairug.selection import features as stage
from pairuni.pairug.selection.feature_cache import FeatureCache
from pairuni.pairug.selection.features import (
    GRID,
    behaviour_of,
    blocks_of,
    encode_blocks,
    encode_features,
    l2_normalise,
    on_grid,
)


class Means:
    """Mean colour plus one, and, in a corner of each row, how many images came in its batch."""

    def __init__(self, scale: float = 1.0, dies_after: int = 10**9) -> None:
        self.scale = scale
        self.batches: list[int] = []
        self.dies_after = dies_after

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        if len(self.batches) > self.dies_after:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        rows = [[*np.asarray(image, float).mean((0, 1)) * self.scale + 1, len(images)] for image in images]
        return np.array(rows, np.float32)


def make_images(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 4), (number * 7 % 256, number, 255 - number)).save(path)
    return paths


def test_rows_are_unit_length_in_the_order_given(tmp_path):
    paths = make_images(tmp_path, 5)
    encoded = encode_features(paths, Means(), batch_size=2, cache=tmp_path / "features")
    raw = np.array([[number * 7 + 1, number + 1, 256 - number, 2] for number in range(5)], np.float64)
    raw[4, 3] = 1
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert encoded.features.dtype == np.float32
    assert np.allclose(encoded.features, expected, atol=1e-7)
    assert encoded.kept == [0, 1, 2, 3, 4]


def test_normalised_features_make_exact_cosines():
    features = l2_normalise(np.random.default_rng(0).normal(size=(64, 2048)).astype(np.float32))
    assert np.array_equal(features, on_grid(features))
    exact = [
        [sum(int(a) * int(b) for a, b in zip(x, y, strict=True)) for y in features[:2] / GRID]
        for x in features[:2] / GRID
    ]
    summed = features[:2].astype(np.float64) @ features[:2].astype(np.float64).T
    assert (summed / GRID**2).astype(object).tolist() == exact
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_row_without_direction_cannot_be_normalised(value):
    with pytest.raises(ValueError, match=r"1 features have no direction .* the first in row 1"):
        l2_normalise(np.array([[1, 2], [value, value]], np.float32))


def test_images_that_cannot_be_encoded_are_reported(tmp_path):
    paths = make_images(tmp_path, 4)
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    paths[2].unlink()
    encoded = encode_features(paths, Means(), batch_size=3, cache=tmp_path / "features")
    assert encoded.kept == [0, 3]
    assert len(encoded.features) == 2
    assert encoded.faults.keys() == {1, 2}
    assert encoded.faults[2] == "is missing"
    dark = encode_features(
        paths[:1],
        lambda images: np.zeros((len(images), 3), np.float32),
        batch_size=3,
        cache=tmp_path / "features",
    )
    assert (dark.kept, len(dark.features)) == ([], 0)
    assert "without a direction" in dark.faults[0]


def test_copies_are_encoded_once_and_known_by_their_digest(tmp_path):
    paths = make_images(tmp_path, 2)
    (tmp_path / "copy.png").write_bytes(paths[0].read_bytes())
    means = Means()
    encoded = encode_features(
        [*paths, tmp_path / "copy.png", paths[0]], means, batch_size=8, cache=tmp_path / "features"
    )
    assert means.batches == [1, 2]  # the image that tells encoders apart, and both
    assert encoded.digests[0] == encoded.digests[2] == encoded.digests[3] != encoded.digests[1]
    assert np.array_equal(encoded.features[0], encoded.features[2])


def test_a_stopped_run_resumes_and_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SHARD", 8)
    paths = make_images(tmp_path, 23)
    paths[6].write_bytes(b"cut")
    complete = encode_features(paths, Means(), batch_size=4, cache=tmp_path / "complete")
    with pytest.raises(KeyboardInterrupt):
        encode_features(paths, Means(dies_after=4), batch_size=4, cache=tmp_path / "cache")
    rest = Means()
    again = encode_features(paths, rest, batch_size=4, cache=tmp_path / "cache")
    assert np.array_equal(again.features, complete.features)
    assert again.digests == complete.digests
    assert 1 < len(rest.batches) < 7
    third = Means()
    encode_features(paths, third, batch_size=4, cache=tmp_path / "cache")
    assert third.batches == [1]  # the image that tells encoders apart
    assert not list(tmp_path.rglob("*.partial"))


def test_another_encoder_or_another_image_of_the_same_name_is_encoded_again(tmp_path):
    paths = make_images(tmp_path, 2)
    first = encode_features(paths, Means(), batch_size=2, cache=tmp_path / "cache")
    scaled = encode_features(paths, Means(scale=0.1), batch_size=2, cache=tmp_path / "cache")
    assert not np.array_equal(first.features, scaled.features)
    Image.new("RGB", (4, 4), (9, 99, 9)).save(paths[1])
    changed = encode_features(paths, Means(), batch_size=2, cache=tmp_path / "cache")
    assert np.array_equal(first.features[0], changed.features[0])
    assert not np.array_equal(first.features[1], changed.features[1])


def test_a_broken_shard_is_named(tmp_path):
    paths = make_images(tmp_path, 2)
    encode_features(paths, Means(), batch_size=2, cache=tmp_path / "cache")
    (keys,) = tmp_path.rglob("*.keys.npy")
    shard = keys.with_name(keys.name.replace(".keys", ""))
    shard.write_bytes(shard.read_bytes()[:150])
    with pytest.raises(
        ValueError, match=r"00000000-[0-9a-f]+\.npy cannot be read .* remove it and .*\.keys\.npy"
    ):
        encode_features(paths, Means(), batch_size=2, cache=tmp_path / "cache")
    shard.unlink()
    keys.unlink()
    assert len(encode_features(paths, Means(), batch_size=2, cache=tmp_path / "cache").kept) == 2


def test_features_without_their_keys_are_no_shard(tmp_path):
    paths = make_images(tmp_path, 3)
    complete = encode_features(paths, Means(), batch_size=2, cache=tmp_path / "cache")
    (keys,) = tmp_path.rglob("*.keys.npy")
    keys.unlink()  # as after a kill between the two
    again = Means()
    assert np.array_equal(
        encode_features(paths, again, batch_size=2, cache=tmp_path / "cache").features, complete.features
    )
    assert again.batches == [1, 2, 1]


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_that_share_a_folder_leave_what_one_leaves(tmp_path, monkeypatch, world_size):
    monkeypatch.setattr(stage, "SHARD", 8)
    paths = make_images(tmp_path, 42)
    paths[9].write_bytes(b"cut")
    paths += [paths[0], paths[30], paths[1]]
    one = encode_features(paths, Means(), batch_size=3, cache=tmp_path / "one")
    workers = [Means() for _ in range(world_size)]
    faults: dict[int, str] = {}
    for rank, worker in reversed(list(enumerate(workers))):
        rows = FeatureCache(tmp_path / "many" / behaviour_of(worker))
        faults |= encode_blocks(islice(blocks_of(paths), rank, None, world_size), worker, rows, 3).faults
    assert all(len(worker.batches) > 3 for worker in workers), "every process must have its part"
    assert faults == one.faults
    last = Means()
    many = encode_features(paths, last, batch_size=3, cache=tmp_path / "many")
    assert last.batches == [1]  # the image that tells encoders apart
    assert np.array_equal(many.features, one.features)
    assert (many.kept, many.digests) == (one.kept, one.digests)


def test_more_data_encodes_what_is_new(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SHARD", 8)
    paths = make_images(tmp_path, 20)
    first = encode_features(paths[4:], Means(), batch_size=4, cache=tmp_path / "cache")
    more = Means()
    both = encode_features(paths, more, batch_size=4, cache=tmp_path / "cache")
    assert more.batches == [1, 4]
    assert np.array_equal(both.features[4:], first.features)


def test_an_encoder_of_the_wrong_shape_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"returned shape \(3,\) for 1 images; it must return \[N, D\]"):
        encode_features(
            make_images(tmp_path, 1),
            lambda images: np.ones(3, np.float32),
            batch_size=2,
            cache=tmp_path / "features",
        )
