"""MMStar and MMMU validation as a model is asked: their released tables in, their answers files out."""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pairuni.evaluation import prompts
from pairuni.evaluation.benchmark import Benchmark, Records, said, spread
from pairuni.evaluation.protocols import mmmu, mmstar
from pairuni.evaluation.result import Result
from pairuni.evaluation.running import Ask
from pairuni.evaluation.tables import read_table

MMSTAR_FILES = (
    "MMStar is the data set Lin-Chen/MMStar on the hub (mmstar.parquet), or VLMEvalKit's MMStar.tsv"
)
MMMU_FILES = (
    "MMMU is the data set MMMU/MMMU on the hub; give the folder of its <Subject>/validation-*.parquet"
)
_MOST_IMAGES = 7
_SEVERAL = "several images side by side in one"


def mmstar_benchmark(
    data: Path, out: Path, *, limit: int | None = None, max_new_tokens: int = 32
) -> Benchmark:
    """MMStar's 1,500 questions.

    data: the parquet file of the hub, whose questions hold their options, or VLMEvalKit's TSV, whose options are
    columns; or the folder of one of them. The answers go to ``out``/answers/mmstar.jsonl. Raises FileNotFoundError
    when there is none.
    """
    path = _table_in(data)
    rows = read_table(path, "index", "question", "image", "answer", "category")
    by_category: dict[str, list[dict[str, Any]]] = {name: [] for name in mmstar.CATEGORIES}
    for row in rows:
        if row["category"] not in by_category:
            raise ValueError(f"{path}: MMStar has no category {row['category']!r}")
        if row["image"] is None:
            raise ValueError(f"{path}: question {row['index']} has no image")
        by_category[row["category"]].append(row)
    chosen, subset = spread({name: rows for name, rows in by_category.items() if rows}, limit, "questions")
    kept = [row for rows in chosen.values() for row in rows]
    within = "A" not in rows[0]

    def finish(records: Records) -> list[Result]:
        answered = [
            {name: cell for name, cell in row.items() if name != "image"}
            | {"prediction": said(records, str(row["index"]))}
            for row in kept
        ]
        mmstar.write_predictions(out / "answers" / "mmstar.jsonl", answered)
        return [mmstar.score(answered)]

    def question(row: Mapping[str, Any]) -> str:
        if within:
            return prompts.choice_within(row["question"])
        options = {letter: row[letter] for letter in "ABCD" if row.get(letter)}
        return prompts.choice(row["question"], options, hint=row.get("hint") or "")

    return Benchmark(
        name="MMStar",
        settings={"prompts": f"{prompts.NAME}{'; options as in the question' if within else ''}"},
        asks=[Ask(str(row["index"]), (row["image"],), question(row)) for row in kept],
        max_new_tokens=max_new_tokens,
        subset=subset,
        finish=finish,
    )


def mmmu_benchmark(
    data: Path, out: Path, *, limit: int | None = None, max_new_tokens: int = 512
) -> Benchmark:
    """MMMU's 900 validation questions; of a question of several images they stand side by side in one.

    data: the folder of the hub's parquet files. Answers go to ``out``/answers/<Subject>/output.json. Raises
    FileNotFoundError and ValueError naming what is missing.
    """
    files = sorted(data.rglob("*validation*.parquet")) if data.is_dir() else [data]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"{data}: no validation-*.parquet there; {MMMU_FILES}")
    by_subject: dict[str, list[dict[str, Any]]] = {name: [] for name in mmmu.SUBJECTS}
    for path in files:
        for row in read_table(path, "id", "question", "options", "answer", "question_type", "image_1"):
            split, _, rest = row["id"].partition("_")
            subject = rest.rpartition("_")[0]
            if split != "validation" or subject not in by_subject:
                raise ValueError(f"{path}: {row['id']} is no validation question of MMMU's 30 subjects")
            by_subject[subject].append(row)
    missing = [name for name, rows in by_subject.items() if not rows]
    if missing:
        raise ValueError(f"{data} lacks MMMU's {', '.join(missing)}; {MMMU_FILES}")
    chosen, subset = spread(by_subject, limit, "questions")
    asks = {row["id"]: _mmmu_ask(row) for rows in chosen.values() for row in rows}
    several = sum(len(ask.pictures) > 1 for ask in asks.values())

    def finish(records: Records) -> list[Result]:
        outputs = {
            subject: [{**_known(row), "response": said(records, row["id"])} for row in rows]
            for subject, rows in chosen.items()
        }
        mmmu.write_outputs(out / "answers", outputs)
        return [
            replace(result, counts={**result.counts, _SEVERAL: several})
            for result in (mmmu.score(outputs), mmmu.score(outputs, guess=False))
        ]

    return Benchmark(
        name="MMMU validation",
        settings={"prompts": prompts.NAME, "pictures": f"in front of the question, {_SEVERAL}"},
        asks=list(asks.values()),
        max_new_tokens=max_new_tokens,
        subset=subset,
        finish=finish,
    )


def _mmmu_ask(row: Mapping[str, Any]) -> Ask:
    options = _known(row).get("index2ans")
    text = prompts.choice(row["question"], options) if options else prompts.open_answer(row["question"])
    pictures = (row.get(f"image_{number}") for number in range(1, _MOST_IMAGES + 1))
    return Ask(row["id"], tuple(picture for picture in pictures if picture is not None), text)


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """What an official answers file says of a question. The data set's lists are text in Python's form."""
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
        raise ValueError(f"{text[:80]!r} in MMMU's table is no list of texts") from None


def _table_in(data: Path) -> Path:
    if data.is_file():
        return data
    found = sorted([*data.rglob("*.parquet"), *data.rglob("MMStar.tsv")])
    if not found:
        raise FileNotFoundError(f"{data}: no table of MMStar there; {MMSTAR_FILES}")
    return found[0]
