"""Pixels of Janus: preprocessing of images for the vision tower, and codes of its VQ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil


def preprocess(image: Image.Image, settings: JanusImageProcessorPil) -> Tensor:
    """[3, S, S] float32 of an RGB image: the longer side becomes S, the rest is padded on both sides.

    The authors' code, which Janus was trained with, truncates the length of the shorter side; ``transformers`` rounds
    it, which gives many photographs another row of pixels.
    """
    square = settings.size["height"]
    longest = max(image.size)
    width, height = (max(int(side / longest * square), settings.min_size) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling(settings.resample))
    side = max(width, height)
    padded = Image.new("RGB", (side, side), tuple(settings.background_color))
    padded.paste(scaled, ((side - width) // 2, (side - height) // 2))
    pixels = (np.asarray(padded).astype(np.float64) * settings.rescale_factor).astype(np.float32)
    if settings.do_normalize:
        mean, std = (np.asarray(values, np.float32) for values in (settings.image_mean, settings.image_std))
        pixels = (pixels - mean) / std
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def vq_pixels(pixels: Tensor, settings: JanusImageProcessorPil) -> Tensor:
    """Pixels in [-1, 1], as the VQ reads them, from those of ``preprocess``; [N, 3, S, S]."""
    if settings.do_normalize:
        mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (settings.image_mean, settings.image_std))
        pixels = pixels * std + mean
    return 2 * pixels - 1


def vq_codes(vq: Any, pixels: Tensor) -> Tensor:
    """Codes of images: [N, 3, S, S] in [-1, 1] -> [N, T] int64, row by row of the patch grid.

    vq: a ``JanusVQVAE``. Latents and codebook are L2-normalised before the nearest code is chosen, as the VQ was
    trained; ``transformers``' own encode omits that, and differs where codes are not of unit length.
    """
    weight = vq.quantize.embedding.weight
    latents = vq.quant_conv(vq.encoder(pixels.to(weight))).float()
    latents = normalize(latents.flatten(2).transpose(1, 2), dim=-1)
    codes: Tensor = torch.matmul(latents, normalize(weight.float(), dim=-1).T).argmax(dim=-1)
    return codes
