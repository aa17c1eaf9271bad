"""pairs encode: processes that share only a folder encode the images ahead of a build."""

from __future__ import annotations

import json
import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel
from typer.testing import CliRunner

from colour_world import world
from kill_events import Child
from pairuni.cli.app import app
from pairuni.cli.pairs import build
from pairuni.config import PairsSettings
from pairuni.distributed.shares import Share, share_of
from pairuni.io.locks import exclusive_lock
from pairuni.pairug.scale.encoding import encode_raw
from pairuni.pairug.selection import encoders
from pairuni.pairug.selection import features as stage
from pairuni.pairug.selection.features import blocks_of

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stage, "SHARD", 8)


def raw(folder: Path, count: int = 30) -> PairsSettings:
    """Images of both sides; the third of U is cut off, one of G is a copy."""
    settings = world(folder, count)
    cut = folder / "u" / "images" / "2.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (folder / "g" / "images" / "5.png").write_bytes((folder / "g" / "images" / "4.png").read_bytes())
    return settings


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**TINY, image_size=16, patch_size=8)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def encoded(rank: int, words: list[str]) -> tuple[int, str]:
    """Exit code and output of the command, as torchrun starts it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    result = CliRunner().invoke(app, ["pairs", "encode", *words])
    return result.exit_code, result.stdout


def test_two_processes_encode_what_the_build_then_finds(tmp_path, tiny, monkeypatch):
    settings = raw(tmp_path)
    words = ["--understanding", settings.understanding[0], "--generation", settings.generation[0]]
    words += ["--out", str(settings.out), "--encoder", str(tiny), "--batch-size", "4", "--clusters", "3"]
    words += ["--annotator", "colour_world:Template", "--threshold", "0"]
    with get_context("fork").Pool(2) as processes:
        (code, first), (other_code, second) = processes.starmap(encoded, [(0, words), (1, words)], 1)
    assert (code, other_code) == (0, 0), first + second
    assert "process 1 of 2: 31 of 32 images encoded; 1 cannot be encoded, the first: " in first
    assert "2.png cannot be decoded" in first
    assert "process 2 of 2: 28 of 28 images encoded\n" in second

    called = []
    forward = encoders.TransformersEncoder.__call__
    monkeypatch.setattr(
        encoders.TransformersEncoder,
        "__call__",
        lambda self, images: called.append(1) or forward(self, images),
    )
    pairs = build(None, words)
    assert called == [1], "the image that tells encoders apart, and no other"
    stats = json.loads((pairs.parent / "stats.json").read_text())
    assert stats["features"] == {"width": 16, "pooling": "pooler output", "dtype": "float32"}
    assert stats["build"]["dropped"] == 1
    assert stats["pairs"] > 3


@pytest.mark.parametrize("images", [0, 1, 8, 9, 61])
def test_blocks_cover_all_images_once(images):
    numbers = [block * 8 + place for block, paths in blocks_of(["x"] * images) for place in range(len(paths))]
    assert numbers == list(range(images))


def test_the_share_is_torchrun_s():
    assert share_of({}) == Share(0, 1, 0)
    assert share_of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Share(5, 8, 1)
    with pytest.raises(ValueError, match="RANK is 2 and WORLD_SIZE 2"):
        share_of({"RANK": "2", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match="must be integers"):
        share_of({"RANK": "first"})


def test_progress_ends_at_the_share_s_total(tmp_path):
    told = []
    encoded = encode_raw(
        raw(tmp_path, count=10),
        lambda images: np.ones((len(images), 3), np.float32),
        Share(1, 2),
        lambda done, total: told.append((done, total)),
    )
    assert encoded.images == 8
    assert told == [(1, 8)] * 8
    assert not encoded.faults


def test_one_at_a_time(tmp_path):
    def until(name: str) -> None:
        while not (tmp_path / name).exists():
            time.sleep(0.01)

    def second() -> None:
        until("held")
        (tmp_path / "waits").touch()
        with exclusive_lock(tmp_path / "lock"):
            assert (tmp_path / "done").exists()

    other = Child(second)  # before the lock is taken, which it would inherit
    with exclusive_lock(tmp_path / "lock"):
        (tmp_path / "held").touch()
        until("waits")
        time.sleep(0.3)
        assert other.runs(), "it does not wait for the lock"
        (tmp_path / "done").touch()
    other.ended()
