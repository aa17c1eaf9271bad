"""The held-out edits of the digits world as a benchmark."""

from __future__ import annotations

from pathlib import Path

from pairuni.config import DigitsEditsSettings
from pairuni.digits.edit_evaluation import PARTS, EditEvaluation, mark_edits, score_of
from pairuni.digits.edits import held_out_edits
from pairuni.digits.evaluation import BATCH
from pairuni.evaluation.benchmark import Benchmark, Records
from pairuni.evaluation.inference import EditItem
from pairuni.evaluation.question_images import png_bytes
from pairuni.evaluation.result import Result
from pairuni.intervals import wilson_interval
from pairuni.io.images import load_image


def digits_edits_benchmark(settings: DigitsEditsSettings, out: Path) -> Benchmark:
    """The items of ``pairuni.digits.edit_evaluation.evaluate_edits``; run it with batches of ``BATCH``.

    Every scored edit goes to ``out``/evaluation/edits.json, with the first images next to it.
    """
    items = held_out_edits(settings.seed, settings.items)
    files = [out / "pictures" / f"{number:05d}.png" for number in range(len(items))]

    def finish(records: Records) -> list[Result]:
        images = [load_image(path) for path in files]
        evaluation = EditEvaluation(
            [
                one
                for start in range(0, len(items), BATCH)
                for one in mark_edits(items[start : start + BATCH], images[start : start + BATCH])
            ]
        )
        evaluation.write(out / "evaluation", "edits")
        return [_result(evaluation)]

    return Benchmark(
        name="digits edits",
        settings={"prompts": "the digits world's", "seed of the items": settings.seed},
        edits=[
            EditItem(f"edit {number}", png_bytes(one.image), one.edit.instruction, path)
            for number, (one, path) in enumerate(zip(items, files, strict=True))
        ],
        seed_of=lambda run, start: run + start,
        finish=finish,
    )


def _result(evaluation: EditEvaluation) -> Result:
    """The share of correct edits, its parts, and both of each kind."""
    edits = evaluation.edits
    scored = {label: (edits, part) for part, label in PARTS.items()}
    for kind, found in evaluation.by_kind().items():
        scored |= {kind: (found, "correct")}
        scored |= {f"{kind}, {label}": (found, part) for part, label in PARTS.items()}
    low, high = wilson_interval(score_of(edits), len(edits))
    return Result(
        benchmark="Digits edits",
        protocol="pairuni",
        score=100 * score_of(edits),
        unit="% of held-out edits",
        interval=(100 * low, 100 * high),
        parts={name: 100 * score_of(found, part) for name, (found, part) in scored.items()},
        counts={"all": len(edits)} | {name: len(found) for name, (found, _) in scored.items()},
    )
