"""The protocol between the reward ``remote`` and its server: the JSON of a batch, and the token.

Request: {"records": [a record with all its keys, ...], "samples": [{"text": "..."} or {"png": "base64"}, ...]}.
Reply: {"scores": [number, ...]}, or {"error": "reason"} with a status of 400 or above.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

from PIL import Image
from pydantic import ValidationError

from pairuni.chat.image import MemoryImage
from pairuni.io.access import token_in_environment
from pairuni.io.images import TooManyPixels, decode
from pairuni.records import Annotation

Sample = str | Image.Image

MAX_PIXELS = 1 << 27
"""Pixels of all images of a request: 400 MB in memory, however small the PNGs are."""
MAX_VALUES = 1 << 21
"""JSON values of a request: an empty object has two bytes in JSON and many more in memory."""
_MAX_QUOTE = 500
_PNG_HEADER = struct.Struct(">8s4x4sII")
"""Signature, length and name of the first chunk, width, height."""
_PNG_HEADER_BASE64 = 32
"""Characters of the header's 24 bytes in base64."""


def pack(records: Sequence[Annotation], samples: Sequence[Sample]) -> bytes:
    """The body of a request. Raises ValueError for values that JSON cannot hold."""
    return json.dumps(
        {
            "records": [record.model_dump(mode="json") for record in records],
            "samples": [_packed(sample) for sample in samples],
        }
    ).encode()


def unpack(body: bytes | bytearray) -> tuple[list[Annotation], list[Sample]]:
    """Records and samples of a request. Raises ValueError naming the record or sample and its fault.

    Memory: a small multiple of the body, plus at most ``MAX_PIXELS`` of images.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise ValueError(f"the request has more than {MAX_VALUES:,} values")
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
    left = MAX_PIXELS
    for number, one in enumerate(samples):
        sample = _unpacked(number, one, left)
        left -= 0 if isinstance(sample, str) else sample.width * sample.height
        unpacked.append(sample)
        samples[number] = None  # release the encoded sample
    return records, unpacked


def bounds_to_json(bounds: tuple[float, float]) -> list[float | None]:
    """A range of scores for JSON, which has no infinity: null."""
    return [bound if math.isfinite(bound) else None for bound in bounds]


def bounds_from_json(given: Any) -> tuple[float, float]:
    """The range that ``bounds_to_json`` wrote. Raises ValueError for anything else."""
    try:
        low, high = given
        bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    except (TypeError, ValueError, OverflowError):
        bounds = (math.nan, math.nan)
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"{shortened(repr(given))} is not a range of scores")
    return bounds


def shortened(text: str) -> str:
    """One line of bounded length. Keeps both ends of a message: the record at the start and the reason at the end."""
    text = " ".join(text.split())
    half = _MAX_QUOTE // 2
    return text if len(text) <= _MAX_QUOTE else f"{text[:half]} ... {text[-half:]}"


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
        if _pixels(given["png"]) > most_pixels:  # checked before any pixel is decoded
            raise TooManyPixels("is too large")
        data = base64.b64decode(given.pop("png"), validate=True)
        return decode(data, formats=("PNG",), most_pixels=most_pixels).image
    except TooManyPixels:
        raise ValueError(
            f"the images up to sample {number} have more than {MAX_PIXELS:,} pixels, the limit of a request; "
            "lower reward.remote.batch_size"
        ) from None
    except ValueError as error:
        raise ValueError(f"sample {number} cannot be read as a PNG ({error})") from None


def _pixels(encoded: str) -> int:
    """Pixels of a PNG according to its header. Raises ValueError if it has none."""
    start = base64.b64decode(encoded[:_PNG_HEADER_BASE64], validate=True)
    if len(start) < _PNG_HEADER.size:
        raise ValueError("it is too short")
    signature, chunk, width, height = _PNG_HEADER.unpack(start)
    if (signature, chunk) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
        raise ValueError("it does not start with a PNG header")
    return int(width * height)


def token_from_environment(variable: str) -> str:
    """The token of a reward server in this environment variable, stripped; empty if there is none.

    Raises ValueError for an invalid name of a variable, and for characters that an HTTP header cannot carry. No error
    quotes the token.
    """
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise ValueError(
            "reward.remote.token_variable must be the name of an environment variable, such as "
            "PAIRUNI_REWARD_TOKEN; its value is not shown, because it may be the token itself"
        )
    return token_in_environment(variable)
