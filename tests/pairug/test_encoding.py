"""pairs encode: processes that share only a folder encode the images ahead of a build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from pairuni.cli.pairs import build
from pairuni.config import PairsSettings
from pairuni.distributed.shares import Share, share_of
from pairuni.io.locks import exclusive_lock
from pairuni.pairug.scale.encoding import encode_raw
from pairuni.pairug.selection import encoders
from pairuni.pairug.selection import features as stage
from pairuni.pairug.selection.features import blocks_of
from pairuni.records import Verdict

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


class Ready:
    """Completes every sample with the same words."""

    def caption(self, sample, feedback):
        return "a noise"

    def question(self, sample, feedback):
        return "What is it?", "noise"

    def verify(self, quadruple):
        return Verdict(ok=True)


def raw(folder: Path, count: int = 30) -> PairsSettings:
    """Noise on both sides; the third image of U is cut off, one of G is a copy."""
    rng = np.random.default_rng(0)
    for side, extra in (("u", {"question": "What?", "answer": "noise"}), ("g", {"prompt": "noise"})):
        (folder / side).mkdir(parents=True)
        lines = []
        for number in range(count):
            path = folder / side / f"{number}.png"
            Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
            lines.append(json.dumps({"id": f"{side}{number}", "image_path": path.name, **extra}))
        (folder / side / "data.jsonl").write_text("\n".join(lines) + "\n")
    cut = folder / "u" / "2.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (folder / "g" / "5.png").write_bytes((folder / "g" / "4.png").read_bytes())
    return PairsSettings(
        understanding=[str(folder / "u" / "data.jsonl")],
        generation=[str(folder / "g" / "data.jsonl")],
        out=folder / "pairug",
        batch_size=4,
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**TINY, image_size=16, patch_size=8)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_two_processes_encode_what_the_build_then_finds(tmp_path, tiny, monkeypatch):
    settings = raw(tmp_path)
    words = ["--understanding", settings.understanding[0], "--generation", settings.generation[0]]
    words += ["--out", str(settings.out), "--encoder", str(tiny), "--batch-size", "4", "--clusters", "3"]
    words += ["--annotator", f"{__name__}:Ready", "--threshold", "0"]
    script = (
        "import pairuni.pairug.selection.features as f; f.SHARD = 8; from pairuni.cli.app import main; main()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, "pairs", "encode", *words],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "process 1 of 2: 31 of 32 images encoded; 1 cannot be encoded, the first: " in said[0]
    assert "2.png cannot be decoded" in said[0]
    assert "process 2 of 2: 28 of 28 images encoded\n" in said[1]

    called = []
    forward = encoders.TransformersEncoder.__call__
    monkeypatch.setattr(
        encoders.TransformersEncoder,
        "__call__",
        lambda self, images: called.append(1) or forward(self, images),
    )
    monkeypatch.setattr(stage, "SHARD", 8)
    pairs = build(None, words)
    assert called == [1], "the image that tells encoders apart, and no other"
    stats = json.loads((pairs.parent / "stats.json").read_text())
    assert stats["features"] == {"width": 16, "pooling": "pooler output", "dtype": "float32"}
    assert stats["build"]["dropped"] == 1
    assert stats["pairs"] > 3


@pytest.mark.parametrize("images", [0, 1, 8, 9, 61])
def test_blocks_cover_all_images_once(monkeypatch, images):
    monkeypatch.setattr(stage, "SHARD", 8)
    numbers = [block * 8 + place for block, paths in blocks_of(["x"] * images) for place in range(len(paths))]
    assert numbers == list(range(images))


def test_the_share_is_torchrun_s():
    assert share_of({}) == Share(0, 1, 0)
    assert share_of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Share(5, 8, 1)
    with pytest.raises(ValueError, match="RANK is 2 and WORLD_SIZE 2"):
        share_of({"RANK": "2", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match="must be integers"):
        share_of({"RANK": "first"})


def test_progress_ends_at_the_share_s_total(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SHARD", 8)
    told = []
    settings = raw(tmp_path, count=10)
    encoded = encode_raw(
        settings,
        lambda images: np.ones((len(images), 3), np.float32),
        Share(1, 2),
        lambda done, total: told.append((done, total)),
    )
    assert encoded.images == 8
    assert told == [(1, 8)] * 8
    assert not encoded.faults


def test_one_at_a_time(tmp_path):
    script = f"""
import sys
from pathlib import Path
from pairuni.io.locks import exclusive_lock
print("waits", flush=True)
with exclusive_lock(Path({str(tmp_path / "lock")!r})):
    print((Path({str(tmp_path)!r}) / "done").exists(), flush=True)
"""
    with exclusive_lock(tmp_path / "lock"):
        other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.3)
        (tmp_path / "done").touch()
    assert other.communicate(timeout=60)[0] == "True\n"
