"""Memory, disk and CPU time per sample of each stage of a build, on synthetic data.

First the pipeline alone, with small images and a matrix as encoder; then images of real size, preprocessed for an
encoder and encoded:

    python benchmarks/build_costs.py
    python benchmarks/build_costs.py --samples 400 --side 512 --encoder preparation
    python benchmarks/build_costs.py --samples 128 --side 512 --encoder resnet-50

Every build runs in a separate process on one thread. A number is the difference between a set and one of half its
size, divided by the difference in samples, so that the program itself does not count. Both sets must fill blocks of
fixed size (33 million distances of k-means). Completion is a class that answers immediately.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.hardware import resident
from pairuni.config import PairsSettings
from pairuni.pairug.build import build_pairs
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample, Verdict

STAGES = ("read", "complete", "encode", "select and write")
ENCODERS = ("matrix", "preparation", "resnet-50", "dinov2-base", "siglip-base")


class Prompt:
    """Completes immediately, with texts as long as a caption and a question with options."""

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        return f"A drawing of a circle, a square and a triangle in a row on white paper, row {sample.id}, thin lines"

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        return (
            f"What lies on the blanket of {sample.id}? Options: A. a dog B. a cat C. a pillow D. a book",
            "A",
        )

    def verify(self, quadruple: Quadruple) -> Verdict:
        return Verdict(ok=True)


def write_raw(folder: Path, samples: int, side: int) -> None:
    """Half of the samples for each corpus: images of blurred noise with some grain, and a line of text each."""
    rng = np.random.default_rng(0)
    for corpus in ("u", "g"):
        (folder / corpus).mkdir(parents=True)
        with (folder / corpus / "data.jsonl").open("w", encoding="utf-8") as lines:
            for number in range(samples // 2):
                coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((side, side))
                grain = rng.normal(0, 8, (side, side, 3))
                pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / corpus / f"{number:08d}.jpg", quality=90)
                half = (
                    {
                        "question": f"Which shape of row {number} is missing? Options: A. circle B. square",
                        "answer": "B",
                    }
                    if corpus == "u"
                    else {
                        "prompt": f"A photograph of {number} brown dogs on a green blanket beside an old wooden window"
                    }
                )
                row = {
                    "id": f"{corpus}{number:08d}",
                    "image_path": f"{number:08d}.jpg",
                    "tag": "made",
                    **half,
                }
                lines.write(json.dumps(row) + "\n")


def make_encoder(name: str, folder: Path, device: str) -> Any:
    """Random weights in the shape of ``name``, with the loading, preprocessing and batches of real encoders.

    preparation: only what precedes the model.
    """
    if name == "matrix":
        matrix = np.random.default_rng(1).normal(size=(8 * 8 * 3, 16)).astype(np.float32)
        return lambda images: np.stack([_thumbnail(image) for image in images]) @ matrix
    import torch
    import transformers

    processor = transformers.ViTImageProcessorPil(size={"height": 224, "width": 224})
    if name == "preparation":
        return lambda images: np.stack(
            [pixels[:, ::28, ::28].reshape(-1) for pixels in processor(images=list(images))["pixel_values"]]
        )
    torch.manual_seed(0)
    if name == "resnet-50":
        model: Any = transformers.ResNetModel(transformers.ResNetConfig())
    elif name == "dinov2-base":
        model = transformers.Dinov2Model(transformers.Dinov2Config())
    else:
        model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig())
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    from pairuni.pairug.selection.encoders import TransformersEncoder

    return TransformersEncoder(str(folder), device)


def _thumbnail(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.resize((8, 8)), np.float32).reshape(-1) / 255 - 0.5


def one_build(folder: Path, encoder_name: str, device: str, batch_size: int) -> dict[str, Any]:
    """CPU seconds of each stage, resident bytes before the build and at its peak, bytes that it leaves on disk."""
    import sklearn.cluster  # noqa: F401 - its memory must not count as that of the samples

    encoder = make_encoder(encoder_name, folder / "encoder", device)
    settings = PairsSettings(
        understanding=[str(folder / "u" / "data.jsonl")],
        generation=[str(folder / "g" / "data.jsonl")],
        out=folder / "out",
        threshold=0.5,
        batch_size=batch_size,
    )
    ends: dict[str, float] = {}
    encoded, peaks = [0], list[int]()

    def advance(stage: str, done: int, total: int) -> None:
        ends.setdefault("read", time.process_time())
        ends["complete" if stage == "completion" else "encode"] = time.process_time()
        encoded[0] += done if stage == "features" else 0
        if encoded[0] == total:
            peaks.append(resident()[1])

    before, _ = resident()
    began = time.process_time()
    summary = build_pairs(settings, encoder=encoder, annotator=Prompt(), advance=advance)
    ends["select and write"] = time.process_time()
    _, peak = resident()
    instants = [began, *(ends[stage] for stage in STAGES)]
    seconds = dict(zip(STAGES, np.diff(instants).tolist(), strict=True))
    kept = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())
    images = sum(path.stat().st_size for path in (folder / "out" / "images").rglob("*") if path.is_file())
    return {
        "samples": summary.samples,
        "pairs": summary.pairs,
        "seconds": seconds,
        "start_bytes": before,
        "peak_bytes": peak,
        "peak_bytes_before_selection": peaks[0],
        "disk_bytes": kept - images,
        "picture_bytes": images,
    }


def measured(samples: int, side: int, encoder: str, device: str, batch_size: int) -> dict[str, Any]:
    """One build in a separate process."""
    with tempfile.TemporaryDirectory() as name:
        write_raw(Path(name), samples, side)
        words = [name, "--child", "--encoder", encoder, "--device", device, "--batch-size", str(batch_size)]
        child = subprocess.run(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
        return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, default=60_000, help="of the larger set; the smaller has half")
    parser.add_argument("--side", type=int, default=32, help="height and width of the images, in pixels")
    parser.add_argument("--encoder", choices=ENCODERS, default="matrix")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=32)
    chosen = parser.parse_args(words)
    if chosen.child:
        import torch

        torch.set_num_threads(1)
        made = one_build(Path(chosen.folder), chosen.encoder, chosen.device, chosen.batch_size)
        print(json.dumps(made))
        return
    given = (chosen.side, chosen.encoder, chosen.device, chosen.batch_size)
    small, large = (measured(count, *given) for count in (chosen.samples // 2, chosen.samples))
    more = large["samples"] - small["samples"]
    result = {
        "side": chosen.side,
        "encoder": chosen.encoder,
        "device": chosen.device,
        "samples": large["samples"],
        "core_milliseconds_a_sample": {
            stage: round(1e3 * (large["seconds"][stage] - small["seconds"][stage]) / more, 3)
            for stage in STAGES
        },
        "bytes_a_sample": {
            name: round((large[name] - small[name]) / more)
            for name in ("peak_bytes_before_selection", "peak_bytes", "disk_bytes", "picture_bytes")
        },
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
