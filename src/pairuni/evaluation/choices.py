"""MMStar and MMMU validation: from the released tables to answers files and results."""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairuni.config import MMMUSettings, MMStarSettings
from pairuni.evaluation import prompts
from pairuni.evaluation.benchmark import SEVERAL, Benchmark, Records, balanced_subset, reply_to
from pairuni.evaluation.inference import QuestionItem
from pairuni.evaluation.protocols import mmmu, mmstar
from pairuni.evaluation.result import Result
from pairuni.evaluation.tables import read_table

MMSTAR_FILES = (
    "MMStar is the data set Lin-Chen/MMStar on the hub (mmstar.parquet), or VLMEvalKit's MMStar.tsv"
)
MMMU_FILES = (
    "MMMU is the data set MMMU/MMMU on the hub; give the folder of its <Subject>/validation-*.parquet"
)
_MOST_IMAGES = 7


def mmstar_benchmark(settings: MMStarSettings) -> Benchmark:
    """MMStar's 1,500 questions.

    data: the hub's parquet file, whose questions contain their options, or VLMEvalKit's TSV, which has columns of
    options; or the folder of either. Answers go to ``out``/answers/mmstar.jsonl. Raises FileNotFoundError when there
    is not a table.
    """
    path = _table_in(settings.data)
    rows = read_table(path, "index", "question", "image", "answer", "category")
    by_category: dict[str, list[dict[str, Any]]] = {name: [] for name in mmstar.CATEGORIES}
    for row in rows:
        if row["category"] not in by_category:
            raise ValueError(f"{path}: MMStar has no category {row['category']!r}")
        if row["image"] is None:
            raise ValueError(f"{path}: question {row['index']} has no image")
        by_category[row["category"]].append(row)
    chosen, subset = balanced_subset(
        {name: rows for name, rows in by_category.items() if rows}, settings.limit, "questions"
    )
    kept = [row for rows in chosen.values() for row in rows]
    within = "A" not in rows[0]

    def finish(records: Records) -> list[Result]:
        answered = [
            {name: cell for name, cell in row.items() if name != "image"}
            | {"prediction": reply_to(records, str(row["index"]))}
            for row in kept
        ]
        mmstar.write_predictions(settings.out / "answers" / "mmstar.jsonl", answered)
        return [mmstar.score(answered)]

    def question(row: Mapping[str, Any]) -> str:
        if within:
            return prompts.choice_within(row["question"])
        options = {letter: row[letter] for letter in "ABCD" if row.get(letter)}
        return prompts.choice(row["question"], options, hint=row.get("hint") or "")

    return Benchmark(
        name="MMStar",
        settings={"prompts": f"{prompts.NAME}{'; options as in the question' if within else ''}"},
        questions=[QuestionItem(str(row["index"]), (row["image"],), question(row)) for row in kept],
        max_new_tokens=settings.max_new_tokens,
        subset=subset,
        finish=finish,
    )


def mmmu_benchmark(settings: MMMUSettings) -> Benchmark:
    """MMMU's 900 validation questions.

    data: the folder of the hub's parquet files. Answers go to ``out``/answers/<Subject>/output.json. Raises
    FileNotFoundError and ValueError naming what is missing.
    """
    data, out = settings.data, settings.out
    files = sorted(data.rglob("*validation*.parquet")) if data.is_dir() else [data]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"{data}: no validation-*.parquet; {MMMU_FILES}")
    by_subject: dict[str, list[dict[str, Any]]] = {name: [] for name in mmmu.SUBJECTS}
    for path in files:
        for row in read_table(path, "id", "question", "options", "answer", "question_type", "image_1"):
            split, _, rest = row["id"].partition("_")
            subject = rest.rpartition("_")[0]
            if split != "validation" or subject not in by_subject:
                raise ValueError(f"{path}: {row['id']} is not a validation question of MMMU's 30 subjects")
            by_subject[subject].append(row)
    missing = [name for name, rows in by_subject.items() if not rows]
    if missing:
        raise ValueError(f"{data} lacks MMMU's {', '.join(missing)}; {MMMU_FILES}")
    chosen, subset = balanced_subset(by_subject, settings.limit, "questions")
    items = {row["id"]: _mmmu_item(row) for rows in chosen.values() for row in rows}
    several = sum(len(item.images) > 1 for item in items.values())

    def finish(records: Records) -> list[Result]:
        outputs = {
            subject: [{**_known(row), "response": reply_to(records, row["id"])} for row in rows]
            for subject, rows in chosen.items()
        }
        mmmu.write_outputs(out / "answers", outputs)
        return [
            replace(result, counts={**result.counts, SEVERAL: several})
            for result in (mmmu.score(outputs), mmmu.score(outputs, guess=False))
        ]

    return Benchmark(
        name="MMMU validation",
        settings={"prompts": prompts.NAME, "pictures": "in front of the question"},
        questions=list(items.values()),
        max_new_tokens=settings.max_new_tokens,
        subset=subset,
        finish=finish,
    )


def _mmmu_item(row: Mapping[str, Any]) -> QuestionItem:
    options = _known(row).get("index2ans")
    text = prompts.choice(row["question"], options) if options else prompts.open_answer(row["question"])
    images = (row.get(f"image_{number}") for number in range(1, _MOST_IMAGES + 1))
    return QuestionItem(row["id"], tuple(image for image in images if image is not None), text)


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """A question as official answers files have it. The data set writes lists as Python literals."""
    answer = row["answer"]
    known = {"id": row["id"], "question_type": row["question_type"], "answer": answer}
    if row["question_type"] != "multiple-choice":
        return known | {"answer": _list(answer) if answer.startswith("[") else answer}
    letters = dict(zip(string.ascii_uppercase, _list(row["options"]), strict=False))
    return known | {"all_choices": list(letters), "index2ans": letters}


def _list(text: str) -> list[str]:
    try:
        return [str(one) for one in ast.literal_eval(text)]
    except (ValueError, SyntaxError, TypeError):
        raise ValueError(f"{text[:80]!r} in MMMU's table is not a list of texts") from None


def _table_in(data: Path) -> Path:
    if data.is_file():
        return data
    found = sorted([*data.rglob("*.parquet"), *data.rglob("MMStar.tsv")])
    if not found:
        raise FileNotFoundError(f"{data}: no table of MMStar; {MMSTAR_FILES}")
    return found[0]
