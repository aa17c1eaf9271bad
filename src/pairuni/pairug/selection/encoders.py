"""Image encoders by name: from ``transformers``, or a user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairuni.custom import is_location, load_attribute, make_object
from pairuni.io.hub import model_folder
from pairuni.io.text import first_line

Dtype = Literal["auto", "float32", "bfloat16"]
Encoder = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""RGB images -> features [N, D], not necessarily normalised."""

_WITHOUT_PIL = ("DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast")
"""Image processors that need torchvision. ViT's PIL processor does the same: resize, rescale, normalise."""


class TransformersEncoder:
    """A vision model of ``transformers`` by hub name or folder, with PIL preprocessing; safetensors only.

    ``pooling`` records what the features are: "image features" of a dual encoder (CLIP, SigLIP, SigLIP 2); otherwise
    the model's "pooler output", flattened (ResNet: global average; DINOv2 and v3: class token); otherwise, if the
    model has no pooler or its checkpoint lacks the pooler's weights, the "mean" of the last hidden states over
    positions. dtype: of weights and forward pass; "auto" is bfloat16 on a GPU, float32 elsewhere.
    Raises ValueError when the model or its preprocessing cannot be loaded completely.
    """

    def __init__(self, name: str, device: str = "cpu", dtype: Dtype = "auto") -> None:
        import torch
        from transformers import AutoModel

        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        self._dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        folder = str(model_folder(name, kind="image encoder"))
        try:
            self._processor = _preprocessing(folder)
            model, loading = AutoModel.from_pretrained(
                folder, output_loading_info=True, use_safetensors=True, dtype=self._dtype
            )
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(f"the image encoder {name!r} cannot be loaded: {first_line(error)}") from None
        absent = sorted(loading["missing_keys"])
        poolerless = [key for key in absent if "pooler" in key.split(".")]
        if len(poolerless) < len(absent):
            rest = next(key for key in absent if key not in poolerless)
            raise ValueError(f"the image encoder {name!r} lacks weights, such as {rest}")
        self.name = name
        self.dtype = dtype
        self._model = model.to(device).eval()
        self._device = device
        self._dual = {"text_config", "vision_config"} <= model.config.to_dict().keys()
        self._pooler = not poolerless
        self.pooling = ""

    def __call__(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Features [N, D] of RGB images, not normalised."""
        import torch

        inputs = {
            name: values.to(self._device, self._dtype if values.is_floating_point() else values.dtype)
            for name, values in self._processor(images=list(images), return_tensors="pt").items()
        }
        with torch.inference_mode():
            if self._dual:
                output = self._model.get_image_features(**inputs)
                pooled = output if isinstance(output, torch.Tensor) else output["pooler_output"]
                self.pooling = "image features"
            else:
                output = self._model(**inputs)
                pooled = output.get("pooler_output") if self._pooler else None
                self.pooling = "mean" if pooled is None else "pooler output"
                if pooled is None:
                    states = output["last_hidden_state"].float()
                    # [N, positions, D] of a transformer, [N, D, height, width] of a convolutional network
                    pooled = states.mean(dim=1) if states.ndim == 3 else states.flatten(2).mean(dim=2)
        return np.asarray(pooled.flatten(1).float().cpu().numpy(), dtype=np.float32)


def make_encoder(name: str, device: str = "cpu", dtype: Dtype = "auto") -> Encoder:
    """The encoder of this name: of ``transformers``, or your own function or class "package.module:name".

    A class is made without arguments. device, dtype: of an encoder of ``transformers``; your own chooses where it
    computes. Raises ValueError when there is no such encoder, and ImportError when a package is missing.
    """
    if not is_location(name):
        return TransformersEncoder(name, device, dtype)
    what = f"the image encoder {name!r}"
    found = load_attribute(name, what)
    if callable(found) and not isinstance(found, type):
        function: Encoder = found
        return function
    made: Encoder = make_object(name, what)
    return made


def describe_encoder(encoder: Any) -> dict[str, str]:
    """How an encoder of ``transformers`` makes its features, known after its first call; empty for custom encoders."""
    if not isinstance(encoder, TransformersEncoder):
        return {}
    return {"pooling": encoder.pooling, "dtype": encoder.dtype}


def _preprocessing(folder: str) -> Any:
    from transformers import AutoImageProcessor, ViTImageProcessorPil
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        stated, _ = ImageProcessingMixin.get_image_processor_dict(folder)
    except OSError:  # timm's checkpoints have it in config.json, which AutoImageProcessor reads
        stated = {}
    if stated.get("image_processor_type") in _WITHOUT_PIL:
        return ViTImageProcessorPil.from_pretrained(folder)
    return AutoImageProcessor.from_pretrained(folder, backend="pil")
