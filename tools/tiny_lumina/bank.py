"""Training images for the language model, encoded once by the frozen image tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pairuni.digits.edits import EDIT_KINDS, Edit, random_edit, render_edit
from pairuni.digits.scans import varied_scans
from tools.pretraining.bank import Bank, rendered, sample_scenes
from tools.pretraining.data import VARIANTS, as_pixel_values
from tools.pretraining.schedule import Report


@dataclass(frozen=True, eq=False)
class EditBank:
    """M edits. sources, targets: codes [M, 4, 4] of the images before and after."""

    edits: list[Edit]
    sources: Tensor
    targets: Tensor


def fill_bank(vq: Any, *, size: int, seed: int, report: Report, batch: int = 250) -> Bank:
    """Render ``size`` training images and encode them to codes [4, 4]."""
    rng = np.random.default_rng(seed)
    scenes, requests = sample_scenes(rng, size)
    codes = []
    for start, pixel_values in rendered(scenes, rng, batch):
        codes.append(codes_of(vq, pixel_values))
        report("bank", start, size, {})
    return Bank(scenes, requests, torch.cat(codes))


def fill_edit_bank(vq: Any, *, size: int, seed: int, report: Report, batch: int = 250) -> EditBank:
    """Render the images before and after ``size`` training edits and encode them."""
    rng = np.random.default_rng(seed)
    edits = [random_edit(rng, EDIT_KINDS[row % len(EDIT_KINDS)], "train") for row in range(size)]
    scans = varied_scans("train", VARIANTS)
    sources, targets = [], []
    for start in range(0, size, batch):
        before, after = zip(
            *(render_edit(edit, rng, scans) for edit in edits[start : start + batch]), strict=True
        )
        sources.append(codes_of(vq, _pixel_values(before)))
        targets.append(codes_of(vq, _pixel_values(after)))
        report("edits", start, size, {})
    return EditBank(edits, torch.cat(sources), torch.cat(targets))


@torch.no_grad()
def codes_of(vq: Any, pixel_values: Tensor) -> Tensor:
    """Codes [N, h, w] of pixel values in [-1, 1]."""
    latents = vq.encode((pixel_values + 1) / 2).latents
    codes: Tensor = vq.quantize(latents)[2][2]
    return codes.view(len(latents), *latents.shape[2:])


def _pixel_values(images: Sequence[Image.Image]) -> Tensor:
    return as_pixel_values(np.stack([np.asarray(image) for image in images]))
