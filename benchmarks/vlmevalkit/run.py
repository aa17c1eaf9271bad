"""VLMEvalKit on held-out digits through the wrapper: multiple choice, matched exactly, no judge.

Needs a VLMEvalKit checkout whose requirements are installed:

    python benchmarks/vlmevalkit/run.py OUT VLMEvalKit/run.py --items 510
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import os
from pathlib import Path

from pairuni.digits.world import held_out_items
from pairuni.harness.vlmevalkit import main as vlmevalkit
from pairuni.rewards.answers.options import parse_options

NAME = "PairUniDigits"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for data and VLMEvalKit's results")
    parser.add_argument("run", type=Path, help="run.py of a VLMEvalKit checkout")
    parser.add_argument("--model", default="tiny", help="checkpoint folder, hub name or tiny")
    parser.add_argument("--items", type=int, default=510, help="held-out items; those with options are used")
    options = parser.parse_args()
    out = options.out.resolve()
    write_items(out / "data" / f"{NAME}.tsv", options.items)
    os.environ["LMUData"] = str(out / "data")  # noqa: SIM112
    arguments = ["--policy", options.model, "--max-new-tokens", "8", "--data", NAME]
    arguments += ["--work-dir", str(out / "results"), "--judge", "exact_matching"]
    vlmevalkit([str(options.run), *arguments])


def write_items(path: Path, count: int) -> None:
    """A table of VLMEvalKit's custom multiple choice: index, question, A to D, answer, image as base64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["index", "question", *"ABCD", "answer", "image"])
        for index, one in enumerate(held_out_items(0, count).understanding):
            if options := parse_options(one.question.text):
                question = one.question.text.partition(" A. ")[0]
                png = io.BytesIO()
                one.image.save(png, format="PNG")
                encoded = base64.b64encode(png.getvalue()).decode()
                table.writerow([index, question, *options.values(), one.question.answer, encoded])


if __name__ == "__main__":
    main()
