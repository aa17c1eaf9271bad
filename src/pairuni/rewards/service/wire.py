"""A batch of records and samples as JSON between the reward ``remote`` and its server, both ways.

{"records": [a record as it is, extra keys too, ...], "samples": [{"text": "..."} or {"png": "base64"}, ...]}
and back {"scores": [number, ...]}, or {"error": "why"} with a status of 400 or above.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from PIL import Image
from pydantic import ValidationError

from pairuni.chat.image import MemoryImage
from pairuni.io.images import TooManyPixels, decode
from pairuni.records import Annotation

Sample = str | Image.Image

MOST_PIXELS = 1 << 27
"""Of all images of a request: 400 MB once they are read, however few bytes they travel in."""
MOST_VALUES = 1 << 21
"""Of a request: objects in memory are many times larger than the two bytes that an empty one travels in."""
_LONGEST_QUOTE = 500
_HEADER = struct.Struct(">8s4x4sII")
_HEADER_CHARACTERS = 32
"""Of base64, which is 24 bytes: signature, length and name of the first chunk, width, height."""


def pack(records: Sequence[Annotation], samples: Sequence[Sample]) -> bytes:
    """The body of a request. Raises ValueError for what JSON cannot hold."""
    return json.dumps(
        {
            "records": [record.model_dump(mode="json") for record in records],
            "samples": [_packed(sample) for sample in samples],
        }
    ).encode()


def unpack(body: bytes | bytearray) -> tuple[list[Annotation], list[Sample]]:
    """Records and samples of a request. Raises ValueError saying what is wrong with which.

    Memory: a small multiple of the body, and of the images only those that fit into ``MOST_PIXELS``.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise ValueError(f"the request has more than {MOST_VALUES:,} values")
    try:
        text = str(body, "utf-8")
        del body
        values = json.loads(text)
    except RecursionError:
        raise ValueError("the request is nested too deeply") from None
    del text
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
        samples[number] = None  # its text is not needed any more
    return records, unpacked


def bounds_to_json(bounds: tuple[float, float]) -> list[float | None]:
    """A range of scores for JSON, which knows no infinity: null."""
    return [bound if math.isfinite(bound) else None for bound in bounds]


def bounds_from_json(given: Any) -> tuple[float, float]:
    """The range that ``bounds_to_json`` wrote. Raises ValueError for anything else."""
    try:
        low, high = given
        bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    except (TypeError, ValueError, OverflowError):
        bounds = (math.nan, math.nan)
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"{shortened(repr(given))} is no range of scores")
    return bounds


def shortened(text: str) -> str:
    """One line of bounded length; a reward's sentence names the record first and the reason last, so both stay."""
    text = " ".join(text.split())
    half = _LONGEST_QUOTE // 2
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:half]} ... {text[-half:]}"


def _packed(sample: Sample) -> dict[str, str]:
    if isinstance(sample, str):
        return {"text": sample}
    return {"png": base64.b64encode(MemoryImage(sample).encoded()[1]).decode()}


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
        if _pixels(given["png"]) > most_pixels:  # known before anything is copied
            raise TooManyPixels("is too large")
        data = base64.b64decode(given.pop("png"), validate=True)
        return decode(data, formats=("PNG",), most_pixels=most_pixels).image
    except TooManyPixels:
        raise ValueError(
            f"the images up to sample {number} have more than {MOST_PIXELS:,} pixels, more than a request may have: "
            "lower reward.remote.batch_size"
        ) from None
    except ValueError as error:
        raise ValueError(f"sample {number} is no PNG that can be read ({error})") from None


def _pixels(encoded: str) -> int:
    """Pixels of a PNG by its header. Raises ValueError when it has none."""
    start = base64.b64decode(encoded[:_HEADER_CHARACTERS], validate=True)
    if len(start) < _HEADER.size:
        raise ValueError("it is too short")
    signature, chunk, width, height = _HEADER.unpack(start)
    if (signature, chunk) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
        raise ValueError("it does not begin as one")
    return int(width * height)
