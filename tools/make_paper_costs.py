"""Writes the tables of hours, money and disk in docs/paper.md, from the plans of the commands.

The commands run on models and data of the real sizes without their content: configurations without weights, blank
images, as many benchmark items as the benchmarks have. Nothing is downloaded and nothing is measured.

python tools/make_paper_costs.py [--gpu-hour DOLLARS]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from pathlib import Path

from PIL import Image

from pairuni.config import PairsSettings, RunSettings, StudySettings, load_settings
from pairuni.config.evaluation import BenchmarkSettings
from pairuni.console.counts import counted
from pairuni.evaluation.benchmark import Benchmark
from pairuni.evaluation.inference import PromptItem, QuestionItem
from pairuni.evaluation.suite import Part, suite_seconds
from pairuni.pairgrpo.cards import NODES
from pairuni.pairug.build import plan_completion
from pairuni.pairug.completion.costs import cost_of
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.runs.models import load_model
from pairuni.studies.cells import cells_of
from tools.make_recipe_plans import RECIPES, output_of
from tools.markdown import table

PAGE = Path(__file__).parents[1] / "docs" / "paper.md"
PAPER = RECIPES / "paper"
GPUS, CARD = 8, NODES[0]
GPU_HOUR = 3.0
"""Assumed price of an hour of one H100, in dollars."""

UNDERSTANDING, GENERATION = 47_000, 60_000
"""Samples of the paper's two corpora."""
QUESTIONS = {"mmmu": (900, 512), "mmstar": (1500, 512), "mme": (2374, 512), "pope": (5127, 512)}
"""Questions of the benchmarks, distinct ones of POPE, and the tokens that a reply may have."""
IMAGES = {"geneval": 553 * 4, "wise": 1000}
STUDIES = ("pairing", "weighting", "threshold", "selection", "encoder")
_SAMPLES = 8
_TABLE = re.compile(r"(<!-- costs: (\w+) -->\n\n).*?(\n\n<!-- end of costs -->)", re.S)


def tables(gpu_hour: float) -> dict[str, str]:
    """The tables of the page by name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"completion": _completion(folder), "runs": _runs(folder, gpu_hour)}


def with_tables(text: str, gpu_hour: float = GPU_HOUR) -> str:
    """The text of the page with its tables."""
    made = tables(gpu_hour)
    return _TABLE.sub(lambda found: f"{found[1]}{made[found[2]]}{found[3]}", text)


def _completion(folder: Path) -> str:
    """Requests, tokens and price of completion, by ``plan_completion`` on a few samples of ordinary size."""
    Image.new("RGB", (512, 512)).save(folder / "image.png")
    question = "What is the total of the two largest values in the chart, to the nearest whole number? " * 2
    halves = {
        "understanding": {"question": question, "answer": "42"},
        "generation": {"prompt": "a photo of a soap bar beside a folded white towel"},
    }
    for side, half in halves.items():
        rows = [{"id": f"{side}{n}", "image_path": "image.png", **half} for n in range(_SAMPLES)]
        (folder / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [*(f"--{side}={folder / side}.jsonl" for side in halves), f"--out={folder / 'build'}"]
    settings = load_settings(PairsSettings, PAPER / "pairug_16k.toml", words)
    plan = plan_completion(settings, ModelAnnotator(settings.annotator, settings.completion))
    share = (UNDERSTANDING + GENERATION) / plan.samples
    lines: list[list[str]] = []
    for name, calls in (
        ("every reply good at once", plan.least_calls),
        ("every sample takes all its tries", plan.most_calls),
    ):
        sent, received = (
            calls / plan.least_calls * one * share for one in (plan.prompt_tokens, plan.completion_tokens)
        )
        cost = cost_of(settings.completion, sent, received)
        lines.append(
            [
                name,
                f"{calls * share:,.0f}",
                f"{sent / 1e6:,.0f} M",
                f"{received / 1e6:,.0f} M",
                f"${cost:,.0f}",
            ]
        )
    return table(["completion", "requests", "tokens sent", "received", "price"], lines)


def _runs(folder: Path, gpu_hour: float) -> str:
    """Hours, money and disk of training, evaluation and ablations."""
    rows: list[list[str]] = []
    hours = 0.0

    def add(what: str, wall: float, disk: str) -> None:
        nonlocal hours
        hours += wall
        rows.append([what, f"{wall:.2f}", f"{GPUS * wall:.1f}", f"${GPUS * wall * gpu_hour:,.0f}", disk])

    for recipe, shape in (
        ("janus_pro_1b", "janus-pro-1b"),
        ("janus_pro_7b", "janus-pro-7b"),
        ("janus_pro_7b_unweighted", "janus-pro-7b"),
    ):
        wall, disk = _training(PAPER / f"{recipe}.toml", shape, GPUS, folder / recipe)
        add(f"`{recipe}`", wall, disk)
        add("`evaluation` of it", _evaluation(folder / recipe / "model", GPUS, [*QUESTIONS, *IMAGES]), "")
    wall, disk = _training(PAPER / "janus_pro_1b.toml", "janus-pro-1b", 1, folder / "one")
    for name in STUDIES:
        runs = len(_new_runs(name, folder))
        tasks = ["mmmu", "mmstar", "geneval", *(["mme"] if name == "weighting" else [])]
        scored = _evaluation(folder / "one" / "model", 1, tasks)
        add(
            f"`ablations/{name}`, 1 seed: {counted(runs, 'run')}",
            math.ceil(runs / GPUS) * (wall + scored),
            f"{disk} a run",
        )
    rows.append(["all", f"{hours:.0f}", f"{GPUS * hours:.0f}", f"${GPUS * hours * gpu_hour:,.0f}", ""])
    return table(["recipe", "hours", "GPU hours", f"at ${gpu_hour:g} a GPU hour", "disk"], rows)


def _training(recipe: Path, shape: str, gpus: int, folder: Path) -> tuple[float, str]:
    """Hours and disk of a run, as ``train --dry-run --gpus`` prints them."""
    folder.mkdir()
    said = output_of(recipe, shape, gpus, folder)
    on_card = said[said.index(f"{gpus} x {CARD.name}") :]
    found = re.search(r"time a step +about ([\d.]+) (s|minutes)", on_card)
    disk = re.search(r"^disk +([\d.]+ \w+)", said, re.M)
    assert found is not None, on_card
    assert disk is not None, said
    seconds = float(found[1]) * (60 if found[2] == "minutes" else 1)
    return load_settings(RunSettings, recipe).pairgrpo.steps * seconds / 3600, disk[1]


def _evaluation(model: Path, gpus: int, tasks: list[str]) -> float:
    """Hours of decoding, by the function that ``eval all --dry-run --gpus`` uses."""
    parts = {}
    for name in tasks:
        settings = BenchmarkSettings(model=str(model), data=model, out=model)
        count, longest = QUESTIONS.get(name, (0, 0))
        benchmark = Benchmark(
            name=name,
            settings={},
            finish=lambda records: [],
            questions=[QuestionItem(str(number), (), "") for number in range(count)],
            prompts=[PromptItem(f"image {number}", "", (model,)) for number in range(IMAGES.get(name, 0))],
            max_new_tokens=longest,
        )
        parts[name] = Part(settings, benchmark)
    policy = load_model(model, device="cpu", weights=False)
    return sum(suite_seconds(parts, policy, CARD, gpus).values()) / 3600


def _new_runs(name: str, folder: Path) -> set[str]:
    """The runs of a study that no study before it has."""
    pairs = folder / "any.jsonl"
    pairs.write_text("{}\n")

    def keys(one: str) -> set[str]:
        path = PAPER / "ablations" / f"{one}.toml"
        study = load_settings(StudySettings, path)
        return {cell.key for cell in cells_of(study, path.parent, folder, [f"--data.pairs={pairs}"], seeds=1)}

    before = {key for one in STUDIES[: STUDIES.index(name)] for key in keys(one)}
    return keys(name) - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Print the costs of docs/paper.md, or write them to the page."
    )
    parser.add_argument("--gpu-hour", type=float, help="price of a GPU hour in dollars: print only")
    given = parser.parse_args().gpu_hour
    if given is not None:
        print("\n\n".join(tables(given).values()))
        return
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
