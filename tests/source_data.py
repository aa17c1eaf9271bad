"""Raw data in files, as users bring it, and what ``SampleReader`` makes of it."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pairuni.pairug.jsonl import Problem, raise_first
from pairuni.pairug.sources import SampleReader
from pairuni.pairug.sources.samples import Inputs
from pairuni.records import GenerationSample, UnderstandingSample

Members = list[tuple[str, bytes | tarfile.TarInfo]]


def encoded(format: str = "PNG", number: int = 1, side: int = 16) -> bytes:
    """An image file of noise."""
    noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


def png(number: int = 1) -> bytes:
    return encoded(number=number, side=4)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int, rows: bytes = b"", bits: int = 8) -> bytes:
    """An RGB PNG whose header may promise more than its rows hold."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks.items())


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path: Path, *rows: dict[str, object]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def archive(
    members: Members, *, mode: str = "w", format: int = tarfile.PAX_FORMAT, padded: bool = True
) -> bytes:
    """A tar; unless ``padded`` it ends after the two zero blocks that the standard requires."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.addfile(info)
    data = buffer.getvalue()
    return data if padded else data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512) + bytes(1024)


def tar_of(path: Path, members: Members, mode: str = "w") -> Path:
    path.write_bytes(archive(members, mode=mode))
    return path


def captioned(count: int) -> Members:
    """Members of a shard: image and caption of each record."""
    names = [(f"{number:05}.png", f"{number:05}.txt") for number in range(count)]
    return [
        one
        for n, (image, text) in enumerate(names)
        for one in ((image, png(n)), (text, f"image {n}\n".encode()))
    ]


def orsta_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "data_source": "CLEVR",
        "images": [{"bytes": png(), "path": None}],
        "prompt": [{"role": "user", "content": "<image>\nHow many?"}],
        "ability": "Counting",
        "reward_model": {"answer": "2", "ground_truth": "\\boxed{2}", "verifier": "mathverify"},
        "extra_info": {"id": "7", "image_path": "x.png"},
    }
    return {**row, **changes}


class Found(NamedTuple):
    """What is read: samples, problems as text, rows left out and content not kept by reason."""

    samples: list[Any]
    problems: list[str]
    left_out: dict[str, int]
    not_kept: dict[str, int]

    @property
    def sample(self) -> Any:
        """The only sample of data without a problem."""
        assert (len(self.samples), self.problems) == (1, []), self
        return self.samples[0]

    @property
    def problem(self) -> str:
        """The only problem of data without a sample."""
        assert (self.samples, len(self.problems)) == ([], 1), self
        return self.problems[0]

    @property
    def prompts(self) -> list[str]:
        return [one.prompt for one in self.samples]

    @property
    def answers(self) -> list[str]:
        return [one.answer for one in self.samples]


def read(given: object, kind: type, kept: Path | None = None) -> Found:
    """kept: folder for images inside the data."""
    reader = SampleReader(str(given), kind, kept)
    every = list(reader)
    problems = [str(one) for one in every if isinstance(one, Problem)]
    assert not any("\n" in one or len(one) > 1000 for one in problems), problems
    samples = [one for one in every if not isinstance(one, Problem)]
    return Found(samples, problems, dict(reader.left_out), dict(reader.not_kept))


def understood(given: object, kept: Path | None = None) -> Found:
    return read(given, UnderstandingSample, kept)


def generated(given: object, kept: Path | None = None) -> Found:
    return read(given, GenerationSample, kept)


def read_understanding(inputs: Inputs, kept: Path | None = None) -> list[UnderstandingSample]:
    """The understanding samples of inputs. Raises ValueError for the first problem, and for an empty set."""
    return _all(SampleReader(inputs, UnderstandingSample, kept))


def read_generation(inputs: Inputs, kept: Path | None = None) -> list[GenerationSample]:
    """The generation samples of inputs; raises as ``read_understanding``."""
    return _all(SampleReader(inputs, GenerationSample, kept))


def _all(reader: SampleReader[Any]) -> list[Any]:
    found = list(reader)
    raise_first([one for one in found if isinstance(one, Problem)])
    if not found:
        raise ValueError(reader.empty_message())
    return found
