"""Image encoder -> L2-normalised features, kept on disk so that a build that stopped goes on."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairuni.files import replacing, write_text

Encoder = Callable[[Sequence[Image.Image]], NDArray[np.float32]]
"""RGB images -> features [N, D], not necessarily normalised."""


def l2_normalise(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length. Raises ValueError when a row is zero or not finite: it has no direction."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(bad):
        raise ValueError(
            f"the encoder gave {len(bad)} features without a direction, the first in row {bad[0]}"
        )
    return (features / lengths).astype(np.float32)


def encode_features(
    folder: Path,
    image_paths: Sequence[str],
    encoder: Encoder,
    *,
    batch_size: int,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Features [N, D], L2-normalised, of images under ``folder``, in the order given."""
    rows = []
    for start in range(0, len(image_paths), batch_size):
        images = []
        for image_path in image_paths[start : start + batch_size]:
            with Image.open(folder / image_path) as image:
                images.append(image.convert("RGB"))
        rows.append(np.asarray(encoder(images), dtype=np.float32))
        if advance is not None:
            advance(len(images))
    return l2_normalise(np.concatenate(rows))


def cached_features(
    cache: Path, name: str, folder: Path, image_paths: Sequence[str], make: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """``make()``'s features, or those at ``cache`` when encoder ``name`` and the images are the same as then."""
    key = _fingerprint(name, folder, image_paths)
    note = cache.with_suffix(".json")
    if cache.is_file() and note.is_file() and json.loads(note.read_text())["key"] == key:
        return np.asarray(np.load(cache))
    features = make()
    with replacing(cache) as aside, aside.open("wb") as file:
        np.save(file, features)
    write_text(note, json.dumps({"key": key, "encoder": name, "shape": features.shape}) + "\n")
    return features


def _fingerprint(name: str, folder: Path, image_paths: Sequence[str]) -> str:
    digest = hashlib.blake2b(name.encode())
    for image_path in image_paths:
        digest.update(f"\0{image_path}\0".encode())
        digest.update(hashlib.blake2b((folder / image_path).read_bytes()).digest())
    return digest.hexdigest()


def transformers_encoder(name: str, device: str = "cpu") -> Encoder:
    """Any ``transformers`` vision encoder by hub name or folder, preprocessed with PIL.

    Pooling: the model's own pooled output where it has one (ResNet-50: the 2048-d average before the
    classification head, the paper's default), else the mean over patches. Dual encoders (CLIP, SigLIP) give
    their image features.
    """
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, backend="pil")
        model = transformers.AutoModel.from_pretrained(name).to(device).eval()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the image encoder {name!r} cannot be loaded: {reason}") from None

    def encode(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixel_values = processor(list(images), return_tensors="pt")["pixel_values"].to(device)
            if callable(getattr(model, "get_image_features", None)):
                output = model.get_image_features(pixel_values=pixel_values)
            else:
                output = model(pixel_values=pixel_values)
            pooled = getattr(output, "pooler_output", output)
            if pooled is None:
                pooled = output.last_hidden_state.mean(dim=1)
        return np.asarray(pooled.flatten(1).float().cpu().numpy())

    return encode
