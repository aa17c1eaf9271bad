"""Codes of images and images of codes, by the ``VQModel`` of diffusers in a checkpoint's folder ``vqvae``.

Pixels are between 0 and 1 on both sides, as in the original code (Alpha-VLLM/Lumina-DiMOO, ``utils/image_utils.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pairuni.policies.files import described_by, read_json
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.tensors import check_tensors, read_file

Item = TypeVar("Item")

FOLDER = "vqvae"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_BATCH = 8
"""Images that pass the VQ at once."""

_MOST = 1024
"""The largest count of layers or groups, and the longest list, that config.json may give."""


class LuminaVQ:
    """Encodes and decodes pictures. Raises ValueError where the VQ does not fit the special ids."""

    model: Any

    def __init__(self, model: nn.Module, ids: TokenIds, source: Path = Path(FOLDER)) -> None:
        self.model = model.eval().requires_grad_(False)
        codes = len(self.model.quantize.embedding.weight)
        if codes != ids.codebook:
            raise ValueError(f"The VQ in {source} has {codes:,} codes, but the vocabulary {ids.codebook:,}.")
        self.scale = 2 ** (len(self.model.config.block_out_channels) - 1)
        """Pixels of a code's side."""

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> list[Tensor]:
        """Codes [h, w] int64 on the CPU of RGB images, whose sides are multiples of ``scale``."""
        found: list[Tensor] = []
        for batch in _batches(images, lambda image: image.size):
            pixels = torch.stack([_pixels(image) for image in batch])
            weight = self.model.quant_conv.weight
            latents = self.model.encode(pixels.to(weight)).latents
            codes = self.model.quantize(latents)[2][2]
            found += codes.view(len(batch), *latents.shape[2:]).cpu()
        return found

    @torch.no_grad()
    def decode(self, codes: Sequence[Tensor]) -> list[Image.Image]:
        """RGB images of codes [h, w]."""
        found = []
        for batch in _batches(codes, lambda one: one.shape):
            stacked = torch.stack(batch).to(self.model.quant_conv.weight.device)
            model = self.model
            entries = model.quantize.get_codebook_entry(
                stacked, (*stacked.shape, model.quantize.vq_embed_dim)
            )
            pixels = model.decoder(model.post_quant_conv(entries)).float().clip(0, 1)
            for image in pixels.permute(0, 2, 3, 1).cpu().numpy():
                found.append(Image.fromarray((image * 255).round().astype(np.uint8), mode="RGB"))
        return found


def load_vq(folder: Path, ids: TokenIds, *, weights: bool = True) -> LuminaVQ:
    """The VQ of a checkpoint's folder, in float32 on the CPU; without weights on the device "meta".

    Raises ValueError when files are missing, damaged, or do not fit each other, and ImportError without diffusers.
    """
    source = folder / FOLDER
    path = source / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no {FOLDER}/config.json; download the VQ of the checkpoint too.")
    config = read_json(path)
    if config.get("_class_name") != "VQModel":
        raise ValueError(f"{path} describes a {config.get('_class_name')!r}; supported: VQModel.")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    vq_class = _vq_class()
    with described_by(path), torch.device("meta"):
        _check_numbers(settings)
        model = vq_class(**settings)
    found = LuminaVQ(model, ids, source)
    if not weights:
        return found
    if not (source / _WEIGHTS).is_file():
        raise ValueError(f"{source} has no {_WEIGHTS}; download the VQ of the checkpoint too.")
    tensors = read_file(source / _WEIGHTS)
    check_tensors(tensors, model.state_dict(), source)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return found


def new_vq(**settings: Any) -> nn.Module:
    """A ``VQModel`` with random weights. Raises ImportError without diffusers."""
    model: nn.Module = _vq_class()(**settings)
    return model


def _vq_class() -> Any:
    try:
        from diffusers.models.autoencoders.vq_model import VQModel
    except ImportError as error:
        raise ImportError("Lumina-DiMOO's VQ needs diffusers: pip install 'pairuni[lumina]'") from error
    return VQModel


def _check_numbers(settings: dict[str, Any]) -> None:
    """Raise ValueError for counts so large that building the model would not end."""
    for key, value in settings.items():
        if isinstance(value, list) and len(value) > _MOST:
            raise ValueError(f"{key} has {len(value)} items")
        if key == "layers_per_block" and not (isinstance(value, int) and 1 <= value <= _MOST):
            raise ValueError(f"{key} is {str(value)[:40]}")


def _batches(items: Sequence[Item], shape: Callable[[Item], Any]) -> list[list[Item]]:
    """Consecutive items of one shape, at most ``_BATCH`` at once."""
    found: list[list[Item]] = []
    for item in items:
        if found and shape(found[-1][0]) == shape(item) and len(found[-1]) < _BATCH:
            found[-1].append(item)
        else:
            found.append([item])
    return found


def _pixels(image: Image.Image) -> Tensor:
    """[3, H, W] float32 between 0 and 1."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
