"""One way from any picture to the 8-bit RGB that models take."""

from __future__ import annotations

import numpy as np
from PIL import Image


def as_rgb(image: Image.Image) -> Image.Image:
    """The whole picture in 8-bit RGB: transparency is dropped, as models' own processors do; 16-bit grey is scaled."""
    image.load()
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
