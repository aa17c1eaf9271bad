"""A batch of records and samples as JSON between the reward ``remote`` and its server, both ways.

{"records": [a record as it is, extra keys too, ...], "samples": [{"text": "..."} or {"png": "base64"}, ...]}
and back {"scores": [number, ...]}, or {"error": "why"} with a status of 400 or above.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from PIL import Image
from pydantic import ValidationError

from pairuni.chat.picture import MemoryPicture
from pairuni.records import Annotation
from pairuni.rgb import as_rgb

Sample = str | Image.Image

MOST_PIXELS = 1 << 27
"""Of all pictures of a request: 400 MB once they are read, however few bytes they travel in."""


def pack(records: Sequence[Annotation], samples: Sequence[Sample]) -> bytes:
    """The body of a request. Raises ValueError for what JSON cannot hold."""
    return json.dumps(
        {
            "records": [record.model_dump(mode="json") for record in records],
            "samples": [_packed(sample) for sample in samples],
        }
    ).encode()


def unpack(body: bytes) -> tuple[list[Annotation], list[Sample]]:
    """Records and samples of a request. Raises ValueError saying what is wrong with which."""
    try:
        values = json.loads(body)
    except RecursionError:
        raise ValueError("the request is nested too deeply") from None
    if not isinstance(values, dict) or not all(
        isinstance(values.get(k), list) for k in ("records", "samples")
    ):
        raise ValueError('the request is not {"records": [...], "samples": [...]}')
    given, samples = values["records"], values["samples"]
    if len(given) != len(samples):
        raise ValueError(f"{len(given)} records but {len(samples)} samples")
    records = [_record(number, one) for number, one in enumerate(given)]
    unpacked: list[Sample] = []
    left = MOST_PIXELS
    for number, one in enumerate(samples):
        sample = _unpacked(number, one, left)
        left -= 0 if isinstance(sample, str) else sample.width * sample.height
        unpacked.append(sample)
    return records, unpacked


def bounds_to_json(bounds: tuple[float, float]) -> list[float | None]:
    """A range of scores for JSON, which knows no infinity: null."""
    return [bound if math.isfinite(bound) else None for bound in bounds]


def bounds_from_json(given: Any) -> tuple[float, float]:
    """The range that ``bounds_to_json`` wrote. Raises ValueError for anything else."""
    try:
        low, high = given
        return (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    except (TypeError, ValueError):
        raise ValueError(f"{given!r} is no range of scores") from None


def _packed(sample: Sample) -> dict[str, str]:
    if isinstance(sample, str):
        return {"text": sample}
    return {"png": base64.b64encode(MemoryPicture(sample).encoded()[1]).decode()}


def _record(number: int, given: Any) -> Annotation:
    try:
        return Annotation.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"record {number}: {place}: {first['msg'].lower()}") from None


def _unpacked(number: int, given: Any, most_pixels: int) -> Sample:
    if isinstance(given, dict) and isinstance(given.get("text"), str):
        text: str = given["text"]
        return text
    if not isinstance(given, dict) or not isinstance(given.get("png"), str):
        raise ValueError(f'sample {number} is neither {{"text": ...}} nor {{"png": ...}}')
    try:
        with Image.open(BytesIO(base64.b64decode(given["png"], validate=True)), formats=["PNG"]) as opened:
            fits = opened.width * opened.height <= most_pixels  # known before the pixels are read
            picture = as_rgb(opened) if fits else None
    except (OSError, SyntaxError, ValueError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"sample {number} is no PNG that can be read ({error})") from None
    if picture is None:
        raise ValueError(
            f"the pictures up to sample {number} have more than {MOST_PIXELS:,} pixels, more than a request may have: "
            "lower reward.remote.batch_size"
        )
    return picture
