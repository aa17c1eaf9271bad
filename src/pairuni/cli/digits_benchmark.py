"""The held-out digits as one benchmark among the others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from pairuni.digits.evaluation import BATCH, MAX_NEW_TOKENS, Evaluation, Marked, mark_images, mark_replies
from pairuni.digits.world import held_out_items
from pairuni.evaluation.benchmark import Benchmark, Records
from pairuni.evaluation.result import Result
from pairuni.evaluation.running import Ask, Draw
from pairuni.intervals import wilson_interval
from pairuni.io.files import write_text
from pairuni.io.images import load_image


def digits_benchmark(items: int, out: Path, *, seed: int) -> Benchmark:
    """``items`` held-out items a task, as ``pairuni.digits.evaluation.evaluate`` asks and draws them.

    Every marked item goes to ``out``/evaluation/after.json, with the first images beside it.
    """
    held_out = held_out_items(seed, items)
    folder = out / "pictures"
    questions = held_out.understanding
    prompted = held_out.generation
    drawn = [folder / f"{number:05d}.png" for number in range(len(prompted))]

    def finish(records: Records) -> list[Result]:
        replies = [records[f"question {number}"]["reply"] for number in range(len(questions))]
        pictures = [load_image(path) for path in drawn]
        marked = [
            one
            for start in range(0, len(prompted), BATCH)
            for one in mark_images(prompted[start : start + BATCH], pictures[start : start + BATCH])
        ]
        evaluation = Evaluation(mark_replies(questions, replies), marked)
        evaluation.write(out / "evaluation", "after")
        write_text(out / "summary.json", json.dumps({"seed": seed, "after": evaluation.scores()}) + "\n")
        return [
            _result("Digits understanding", evaluation.understanding),
            _result("Digits generation", evaluation.generation),
        ]

    return Benchmark(
        name="digits",
        settings={"prompts": "the digits world's", "seed of the items": seed},
        asks=[
            Ask(f"question {number}", (_png(one.image),), one.question.text)
            for number, one in enumerate(questions)
        ],
        draws=[
            Draw(f"prompt {number}", one.prompt, (path,))
            for number, (one, path) in enumerate(zip(prompted, drawn, strict=True))
        ],
        max_new_tokens=MAX_NEW_TOKENS,
        seed_of=lambda run, start: run + start,
        finish=finish,
    )


def _result(name: str, items: Sequence[Marked]) -> Result:
    marks = [float(item.correct) for item in items]
    kinds: dict[str, list[float]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(float(item.correct))
    low, high = wilson_interval(sum(marks) / len(marks), len(marks))
    return Result(
        benchmark=name,
        protocol="pairuni",
        score=100 * sum(marks) / len(marks),
        unit="% of held-out items",
        interval=(100 * low, 100 * high),
        parts={kind: 100 * sum(found) / len(found) for kind, found in kinds.items()},
        counts={"all": len(marks)} | {kind: len(found) for kind, found in kinds.items()},
    )


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
