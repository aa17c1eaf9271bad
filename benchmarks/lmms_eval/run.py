"""lmms-eval on held-out digits through the plug-in: answers, choices by likelihood, generated images.

Needs lmms-eval in the environment (pip install "pairuni[lmms-eval]"):

    python benchmarks/lmms_eval/run.py OUT --items 510

Writes the items that ``pairuni eval digits`` asks as parquet into OUT and runs lmms-eval's command there. Its
two accuracies are those of ``pairuni eval digits`` on the same items, to the last item.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from datasets import Dataset, Features, Image, Sequence, Value

from pairuni.digits.world import held_out_items
from pairuni.rewards.answers.options import parse_options

TASKS = Path(__file__).resolve().parent / "tasks"
BATCH = 102
"""As in ``pairuni eval digits``: the noise of an image depends on its position in the batch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for data, images and lmms-eval's results")
    parser.add_argument("--model", default="tiny", help="checkpoint folder, hub name or tiny")
    parser.add_argument("--items", type=int, default=510, help="held-out items a task")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="share the items among so many, by torchrun")
    options = parser.parse_args()
    write_items(options.out, options.items)
    common = f"pretrained={options.model}"
    for tasks, arguments in (
        ("digits_answer,digits_choice", common),
        ("digits_draw", f"{common},mode=draw,output_dir=pictures"),
    ):
        command = [sys.executable, "-m"]
        if options.processes > 1:
            command += [
                "torch.distributed.run",
                "--standalone",
                f"--nproc-per-node={options.processes}",
                "-m",
            ]
        command += ["lmms_eval", "--model", "pairuni", "--model_args", arguments]
        command += ["--tasks", tasks, "--include_path", str(TASKS), "--batch_size", str(BATCH)]
        command += ["--device", options.device, "--output_path", "results", "--log_samples"]
        subprocess.run(command, check=True, cwd=options.out)


def write_items(folder: Path, count: int) -> None:
    """questions.parquet, choices.parquet (those with options) and prompts.parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    items = held_out_items(0, count)
    rows = [
        {"image": one.image, "question": one.question.text, "answer": one.question.answer}
        for one in items.understanding
    ]
    features = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(folder / "questions.parquet")
    choices = []
    for row in rows:
        if options := parse_options(row["question"]):
            place = list(options).index(row["answer"])
            choices.append({**row, "answer": place, "options": list(options.values())})
    features = Features({**features, "answer": Value("int64"), "options": Sequence(Value("string"))})
    Dataset.from_list(choices, features=features).to_parquet(folder / "choices.parquet")
    prompts = [{"prompt": one.prompt} for one in items.generation]
    Dataset.from_list(prompts).to_parquet(folder / "prompts.parquet")


if __name__ == "__main__":
    main()
