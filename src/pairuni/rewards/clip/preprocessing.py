"""CLIP's preprocessing: bicubic resizing, a centre crop and normalisation, in HPSv2's order and in open_clip's.

HPSv2 (torchvision's ToTensor, Resize, CenterCrop, Normalize on tensors) interpolates numbers in [0, 1] without rounding
or clipping; open_clip resizes bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pairuni.io.rgb import as_rgb

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's means and standard deviations of red, green and blue."""


def tensor_first(images: Sequence[Image.Image], size: int, device: torch.device) -> Tensor:
    """HPSv2's preprocessing: images [N, 3, size, size], float32, the shorter side antialiased to ``size``."""
    squares = []
    for image in images:
        pixels = torch.from_numpy(np.array(as_rgb(image, drop_alpha=True))).to(device).float().div_(255)
        height, width, _ = pixels.shape
        rows = cropped_resize_weights(height, size, shortest=min(height, width)).to(device)
        columns = cropped_resize_weights(width, size, shortest=min(height, width)).to(device)
        lower = (rows @ pixels.view(height, width * 3)).view(size, width, 3)
        squares.append(lower.permute(2, 0, 1) @ columns.T)
    return _normalised(squares)


def bytes_first(images: Sequence[Image.Image], size: int) -> Tensor:
    """open_clip's preprocessing for OpenAI's CLIP: images [N, 3, size, size], float32, resized by PIL."""
    squares = []
    for image in images:
        width, height = image.size
        short = min(width, height)
        resized = image.resize(
            (int(size * width / short), int(size * height / short)), Image.Resampling.BICUBIC
        )
        left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
        square = resized.crop((left, top, left + size, top + size))
        squares.append(torch.from_numpy(np.array(as_rgb(square))).permute(2, 0, 1).float() / 255)
    return _normalised(squares)


def _normalised(squares: Sequence[Tensor]) -> Tensor:
    mean = torch.tensor(MEAN, device=squares[0].device)[:, None, None]
    std = torch.tensor(STD, device=squares[0].device)[:, None, None]
    return (torch.stack(list(squares)) - mean) / std


@lru_cache(maxsize=64)
def cropped_resize_weights(length: int, size: int, *, shortest: int) -> Tensor:
    """Weights [size, length] that resize one side of an image and keep the central ``size`` pixels.

    The side has ``length`` pixels; the shorter side has ``shortest``, which become ``size``. Cubic convolution with
    a = -0.5, widened when shrinking (antialiasing), cut at the edges and normalised. Only the pixels of the crop are
    computed, so an image that is one pixel wide costs no more than any other.
    """
    resized = size if length == shortest else int(size * length / shortest)
    first = round((resized - size) / 2)
    scale = torch.tensor(length / resized)  # float32, as in torch's own interpolation
    reach = scale.clamp(min=1)
    centres = (torch.arange(first, first + size) + 0.5) * scale
    low = (centres - 2 * reach + 0.5).floor().clamp(min=0)
    high = (centres + 2 * reach + 0.5).floor().clamp(max=length)
    places = torch.arange(length)
    away = ((places - centres[:, None] + 0.5) / reach).abs()
    near = (1.5 * away - 2.5) * away * away + 1
    far = ((-0.5 * away + 2.5) * away - 4) * away + 2
    weights = torch.where(away < 1, near, torch.where(away < 2, far, 0.0))
    weights = weights * ((places >= low[:, None]) & (places < high[:, None]))
    return weights / weights.sum(dim=1, keepdim=True)
