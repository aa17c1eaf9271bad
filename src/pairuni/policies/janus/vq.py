"""Image codes of Janus's VQ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize


def vq_codes(vq: Any, pixels: Tensor) -> Tensor:
    """Codes of images: [N, 3, S, S] in [-1, 1] -> [N, T] int64, row by row of the patch grid.

    vq: a ``JanusVQVAE``. Latents and codebook are L2-normalised before the nearest code is taken, as the VQ
    was trained; ``transformers``' own encode leaves that out, and differs where codes are not of unit length.
    """
    weight = vq.quantize.embedding.weight
    latents = vq.quant_conv(vq.encoder(pixels.to(weight))).float()
    latents = normalize(latents.flatten(2).transpose(1, 2), dim=-1)
    codes: Tensor = torch.matmul(latents, normalize(weight.float(), dim=-1).T).argmax(dim=-1)
    return codes
