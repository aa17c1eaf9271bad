"""A run folder with the files of training and the demo, filled with invented numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pairuni.config import RunSettings, load_settings, to_toml

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COLOURS = {"red": (235, 60, 50), "green": (70, 200, 90), "blue": (80, 130, 250), "yellow": (245, 215, 70)}
KINDS = {
    "understanding": ["read", "count", "colour", "place", "add"],
    "generation": ["single_object", "two_object", "counting", "colors", "position", "color_attr"],
}


def scene(path: Path, rng: random.Random, size: int = 32) -> None:
    image = Image.new("RGB", (size, size), (8, 8, 10))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size // 2)
    for row, column in rng.sample([(0, 0), (0, 1), (1, 0), (1, 1)], rng.randint(1, 3)):
        place = (column * size // 2 + size // 8, row * size // 2 - size // 16)
        draw.text(place, str(rng.randint(0, 9)), font=font, fill=rng.choice(list(COLOURS.values())))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_fake_run(
    folder: Path, *, steps: int = 150, items: int = 60, pairs: int = 120, seed: int = 0
) -> Path:
    """Write all files of a run."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings(
        RunSettings, None, ["--policy.model=tiny", f"--data.pairs={folder / 'pairug' / 'pairs.jsonl'}"]
    )
    (folder / "config.toml").write_text(to_toml(settings))
    _write_lines(folder / "metrics.jsonl", [_metrics(rng, step, steps) for step in range(1, steps + 1)])
    before, after = _evaluation(folder, rng, items)
    for name, scores in (("before", before), ("after", after)):
        (folder / "evaluation" / f"{name}.json").write_text(json.dumps(scores))
    summary: dict[str, Any] = {"seed": seed, "seconds": 431.7, "pairs": "pairug/pairs.jsonl"}
    for name, scores in (("before", before), ("after", after)):
        summary[name] = {task: scores[task]["score"] for task in KINDS}
    (folder / "summary.json").write_text(json.dumps(summary))
    _write_lines(folder / "pairug" / "pairs.jsonl", [_pair(folder / "pairug", rng, i) for i in range(pairs)])
    _write_lines(
        folder / "samples" / "samples.jsonl",
        [_sample(folder / "samples", rng, step, i) for step in (1, steps) for i in range(2)],
    )
    return folder


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _metrics(rng: random.Random, step: int, steps: int) -> dict[str, Any]:
    risen = 1 - math.exp(-3 * step / steps)
    return {
        "step": step,
        "understanding/reward": min(1.0, max(0.0, 0.48 + 0.16 * risen + rng.gauss(0, 0.05))),
        "generation/reward": min(1.0, max(0.0, 0.41 + 0.27 * risen + rng.gauss(0, 0.06))),
        "frac_reward_zero_std": 0.2 + 0.1 * risen + rng.gauss(0, 0.02),
        "loss": rng.gauss(0, 1e-8),
        "learning_rate": 1e-4 * min(1.0, step / 5),
        "grad_norm": None if step == 7 else 0.8 + rng.random() * 0.3,
        "clip_ratio/region_mean": 0.0,
        "understanding/completions/mean_length": 2 + rng.random(),
        "tokens_per_second": 2400 + rng.gauss(0, 60),
    }


def _evaluation(folder: Path, rng: random.Random, items: int) -> tuple[dict[str, Any], dict[str, Any]]:
    before: dict[str, list[dict[str, Any]]] = {"understanding": [], "generation": []}
    after: dict[str, list[dict[str, Any]]] = {"understanding": [], "generation": []}
    for index in range(items):
        kind = KINDS["understanding"][index % 5]
        scene(folder / "evaluation" / "scenes" / f"{index}.png", rng)
        truth, other = rng.sample(NUMBERS, 2)
        for rows, chance in ((before, 0.5), (after, 0.65)):
            right = rng.random() < chance
            question = f"which digit is top left? <{index}>"
            rows["understanding"].append(
                {
                    "question": question,
                    "answer": truth,
                    "reply": truth if right else other,
                    "correct": right,
                    "image": f"evaluation/scenes/{index}.png",
                    "kind": kind,
                }
            )
        kind = KINDS["generation"][index % 6]
        prompt = f"a {rng.choice(list(COLOURS))} {truth} left of a {rng.choice(list(COLOURS))} {other}"
        for name, rows, chance in (("before", before, 0.4), ("after", after, 0.6)):
            image = f"{name}/{index}.png"
            scene(folder / "evaluation" / image, rng)
            rows["generation"].append(
                {
                    "prompt": prompt,
                    "kind": kind,
                    "correct": rng.random() < chance,
                    "reply": f"a {truth} top left and a red {other} bottom left",
                    "image": f"evaluation/{image}",
                }
            )
    return _scores(before), _scores(after)


def _scores(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    def share(chosen: list[dict[str, Any]]) -> dict[str, Any]:
        return {"score": sum(row["correct"] for row in chosen) / max(1, len(chosen)), "count": len(chosen)}

    return {
        task: {
            **share(rows[task]),
            "by_kind": {kind: share([row for row in rows[task] if row["kind"] == kind]) for kind in kinds},
            "items": rows[task],
        }
        for task, kinds in KINDS.items()
    }


def _pair(folder: Path, rng: random.Random, index: int) -> dict[str, Any]:
    aligned = index % 3 == 0
    similarity = 1.0 if aligned else min(0.99, max(0.6, rng.gauss(0.72, 0.07)))
    sides = []
    for side in ("u", "g")[: 1 if aligned else 2]:
        image = f"images/{side}{index}.png"
        scene(folder / image, rng)
        sides.append(
            {
                "image_path": image,
                "prompt": f"a {rng.choice(list(COLOURS))} {rng.choice(NUMBERS)} top left",
                "question": "what colour is the digit? A. red B. green C. blue D. yellow",
                "answer": rng.choice("ABCD"),
                "tag": "colour",
            }
        )
    return {"similarity": similarity, "understand_ann": sides[0], "generate_ann": sides[-1]}


def _sample(folder: Path, rng: random.Random, step: int, index: int) -> dict[str, Any]:
    images = []
    for rollout in range(8):
        image = f"step-{step:06d}/{index}-{rollout}.png"
        scene(folder / image, rng)
        images.append({"image": image, "reward": rng.choice([0.0, 0.5, 1.0]), "advantage": rng.gauss(0, 1)})
    return {
        "step": step,
        "similarity": rng.uniform(0.6, 1),
        "pair_weight": 0.9,
        "kind": "retrieved",
        "prompt": "a red seven and a blue two",
        "pictures": images,
        "image_path": "images/u0.png",
        "question": "how many digits are there?",
        "answer": "two",
        "answers": [
            {"text": rng.choice(["one", "two", "two", "three", ""]), "reward": 1.0, "advantage": 0.1}
            for _ in range(8)
        ],
    }
