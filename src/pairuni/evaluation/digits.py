"""The held-out scenes of the digits world as a benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pairuni.config import DigitsSettings
from pairuni.digits.evaluation import (
    BATCH,
    MAX_NEW_TOKENS,
    Evaluation,
    Marked,
    grouped,
    mark_images,
    mark_replies,
    share_correct,
    share_reading,
)
from pairuni.digits.world import held_out_items
from pairuni.evaluation.benchmark import Benchmark, Records
from pairuni.evaluation.inference import PromptItem, QuestionItem
from pairuni.evaluation.question_images import png_bytes
from pairuni.evaluation.result import Result
from pairuni.intervals import wilson_interval
from pairuni.io.files import write_text
from pairuni.io.images import load_image


def digits_benchmark(settings: DigitsSettings, out: Path) -> Benchmark:
    """The held-out items and prompts of ``pairuni.digits.evaluation.evaluate``; run it with batches of ``BATCH``.

    Every scored item goes to ``out``/evaluation/after.json, with the first images next to it.
    """
    held_out = held_out_items(settings.seed, settings.items)
    questions, prompts = held_out.understanding, held_out.generation
    files = [out / "pictures" / f"{number:05d}.png" for number in range(len(prompts))]

    def finish(records: Records) -> list[Result]:
        replies = [records[f"question {number}"]["reply"] for number in range(len(questions))]
        images = [load_image(path) for path in files]
        marked = [
            one
            for start in range(0, len(prompts), BATCH)
            for one in mark_images(prompts[start : start + BATCH], images[start : start + BATCH])
        ]
        evaluation = Evaluation(mark_replies(questions, replies), marked)
        evaluation.write(out / "evaluation", "after")
        summary = {"seed": settings.seed, "after": evaluation.scores()}
        write_text(out / "summary.json", json.dumps(summary) + "\n")
        return [
            _understanding_result(evaluation.understanding),
            _result("Digits generation", evaluation.generation),
        ]

    return Benchmark(
        name="digits",
        settings={"prompts": "the digits world's", "seed of the items": settings.seed},
        questions=[
            QuestionItem(f"question {number}", (png_bytes(one.image),), one.question.text)
            for number, one in enumerate(questions)
        ],
        prompts=[
            PromptItem(f"prompt {number}", one.prompt, (path,))
            for number, (one, path) in enumerate(zip(prompts, files, strict=True))
        ],
        max_new_tokens=MAX_NEW_TOKENS,
        seed_of=lambda run, start: run + start,
        finish=finish,
    )


def _result(name: str, items: Sequence[Marked]) -> Result:
    kinds = grouped(items, lambda item: item.kind)
    score = share_correct(items)
    low, high = wilson_interval(score, len(items))
    return Result(
        benchmark=name,
        protocol="pairuni",
        score=100 * score,
        unit="% of held-out items",
        interval=(100 * low, 100 * high),
        parts={kind: 100 * share_correct(found) for kind, found in kinds.items()},
        counts={"all": len(items)} | {kind: len(found) for kind, found in kinds.items()},
    )


def _understanding_result(items: Sequence[Marked]) -> Result:
    """The result with the scores of open questions and of those with options, strict and of the words alone."""
    result = _result("Digits understanding", items)
    parts, counts = dict(result.parts), dict(result.counts)
    for form, found in sorted(grouped(items, lambda item: item.form).items()):
        for name, score in ((form, share_correct(found)), (f"{form}, words alone", share_reading(found))):
            parts[name], counts[name] = 100 * score, len(found)
    return replace(result, parts=parts, counts=counts)
