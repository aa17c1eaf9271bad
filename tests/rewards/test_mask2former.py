"""Mask2Former's instances and preprocessing compared with an independent version of mmdetection's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

import tiny_detectors
from pairuni.rewards.composition import mask2former as module
from pairuni.rewards.composition.loading import load_detector
from pairuni.rewards.composition.mask2former import instances, preprocess
from reference import mask2former_instances as oracle

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_detectors.mask2former(tmp_path_factory.mktemp("mask2former"))


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    coarse = RNG.integers(0, 256, (6, 6, len(mode)), dtype=np.uint8)
    return Image.fromarray(coarse, mode=mode).resize((width, height), Image.Resampling.BICUBIC)


def logits(queries: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Class logits that are sure of something, and masks of blobs, one of them nowhere."""
    labels = torch.from_numpy(RNG.normal(0, 3, (queries, classes + 1)))
    rows, columns = np.mgrid[:12, :16]
    centres = RNG.uniform(0, 14, (queries, 2))
    away = np.hypot(rows - centres[:, :1, None], columns - centres[:, 1:, None])
    masks = torch.from_numpy(RNG.uniform(2, 5, (queries, 1, 1)) - away + RNG.normal(0, 0.5, away.shape))
    masks[0] = -5.0
    labels[0, 1] = 9.0
    return labels.float(), masks.float()


@pytest.mark.parametrize(("queries", "classes"), [(20, 4), (40, 6)])
def test_instances_match_mmdetections_rules(queries: int, classes: int) -> None:
    labels, masks = logits(queries, classes)
    padded, resized, size = (48, 64), (41, 64), (30, 47)
    all_theirs = oracle.instances(labels.numpy(), masks.numpy(), padded, resized, size)
    for least in (0.0, 0.3):
        ours = instances(labels, masks, padded=padded, resized=resized, size=size, least=least)
        theirs = [one for one in all_theirs if one[1] > least]
        assert len(ours.labels) == len(theirs) > 5
        order = torch.argsort(ours.scores, descending=True).tolist()
        for place, (label, score, box, mask) in zip(
            order, sorted(theirs, key=lambda one: -one[1]), strict=True
        ):
            assert ours.labels[place] == label
            assert float(ours.scores[place]) == pytest.approx(score, abs=1e-5)
            assert tuple(ours.boxes[place].tolist()) == box
            assert np.array_equal(ours.masks[place].numpy(), mask)


def test_only_the_100_most_probable_count() -> None:
    labels, masks = torch.zeros(60, 4), torch.ones(60, 8, 8)
    found = instances(labels, masks, padded=(8, 8), resized=(8, 8), size=(8, 8), least=0.0)
    assert len(found.labels) == 100


def test_overlapping_objects_are_all_found_where_transformers_keeps_the_last() -> None:
    labels = torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    masks = torch.full((2, 8, 8), 5.0)
    masks[1, :, 4:] = -5.0
    found = instances(labels, masks, padded=(8, 8), resized=(8, 8), size=(8, 8), least=0.3)
    assert sorted(found.boxes.tolist()) == [[0, 0, 4, 8], [0, 0, 8, 8]]
    outputs = type("Outputs", (), {"class_queries_logits": labels[None], "masks_queries_logits": masks[None]})
    theirs = Mask2FormerImageProcessorPil().post_process_instance_segmentation(
        outputs, threshold=0.3, target_sizes=[(8, 8)]
    )[0]
    shown = [theirs["segmentation"] == one["id"] for one in theirs["segments_info"] if one["label_id"] == 0]
    assert sorted(int(mask.sum()) for mask in shown) != [32, 64]


@pytest.mark.parametrize(("width", "height"), [(384, 384), (50, 37), (20, 90)])
def test_preprocessing_matches_mmdetection(monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    monkeypatch.setattr(module, "SHORT", 80)
    monkeypatch.setattr(module, "LONG", 133)
    image = noise(width, height)
    pixels, resized = preprocess([image], torch.device("cpu"))
    scale = min(133 / max(width, height), 80 / min(width, height))
    assert resized == (int(height * scale + 0.5), int(width * scale + 0.5))
    assert [side % 32 for side in pixels.shape[2:]] == [0, 0]
    assert all(0 <= side - own < 32 for side, own in zip(pixels.shape[2:], resized, strict=True))
    values = np.asarray(image, dtype=np.float64)
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    for channel in range(3):
        inside = pixels[0, channel, : resized[0], : resized[1]].numpy() * std[channel] + mean[channel]
        assert np.abs(inside - inside.round()).max() < 1e-3
        # A byte of rounding: what lies half way between two may go either way.
        assert np.abs(inside - oracle.bilinear(values[..., channel], *resized)).max() <= 0.501
    assert pixels[0, :, resized[0] :].abs().sum() == pixels[0, :, :, resized[1] :].abs().sum() == 0


def test_a_checkpoint_finds_the_instances_in_its_logits(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHORT", 64)
    monkeypatch.setattr(module, "LONG", 96)
    detector = load_detector(str(folder), device="cpu", least=0.1, batch_size=2)
    assert detector.labels == {"person", "dog", "computer mouse", "couch", "tv", "cup"}
    images = [noise(40, 30), noise(33, 33), noise(40, 30, "RGBA"), noise(40, 30)]
    together = detector(images)
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    total = 0
    for image, found in zip(images, together, strict=True):
        pixels, resized = preprocess([image], torch.device("cpu"))
        with torch.no_grad():
            outputs = model(pixel_values=pixels)
        theirs = oracle.instances(
            outputs.class_queries_logits[0].numpy(),
            outputs.masks_queries_logits[0].numpy(),
            (pixels.shape[2], pixels.shape[3]),
            resized,
            (image.height, image.width),
            most=24,  # the others are below 0.1
        )
        theirs = sorted((one for one in theirs if one[1] > 0.1), key=lambda one: -one[1])
        found = sorted(found, key=lambda one: -one.confidence)
        assert [one.confidence for one in found] == pytest.approx([one[1] for one in theirs], abs=1e-4)
        assert [one.box for one in found] == [one[2] for one in theirs]
        assert all(one.mask is not None and one.mask.shape == (image.height, image.width) for one in found)
        total += len(found)
    assert total >= 8


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(folder: Path) -> None:
    images = [noise(40, 30) for _ in range(6)]
    there, here = (load_detector(str(folder), device=name, least=0.1)(images) for name in ("cuda", "cpu"))
    total = 0
    for ours, theirs in zip(there, here, strict=True):
        ours, theirs = (sorted(found, key=lambda one: -one.confidence) for found in (ours, theirs))
        assert [one.label for one in ours] == [one.label for one in theirs]
        assert [one.confidence for one in ours] == pytest.approx([one.confidence for one in theirs], abs=1e-2)
        total += len(ours)
    assert total >= 6


def test_what_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder; set reward"):
        load_detector("./nowhere")
    with pytest.raises(ValueError, match="cannot load the detector"):
        load_detector(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match=r"names the module nowhere\.at_all, which was not found"):
        load_detector("nowhere.at_all:Detector")
    with pytest.raises(ValueError, match="has no class Nothing"):
        load_detector("pairuni.digits.objects:Nothing")
