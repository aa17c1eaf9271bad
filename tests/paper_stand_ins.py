"""Small data with the real files' schema for every recipe of recipes/paper: raw data, models, benchmarks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageDraw
from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetModel

from pairuni.evaluation.protocols import mme, mmmu, mmstar, pope
from reference import tiny_hpsv2
from source_data import orsta_row, tar_of
from tiny_detectors import clip, mask2former

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
JUDGE_SCRIPT = """def build_evaluation_messages(prompt_data, image_base64):
    return [{'role': 'system', 'content': [{'type': 'text', 'text': 'Be strict.'}]},
            {'role': 'user', 'content': [
            {'type': 'text', 'text': f"P: {prompt_data['Prompt']} E: {prompt_data['Explanation']}"},
            {'type': 'image_url', 'image_url': {'url': f'data:{image_base64}'}}]}]
"""
GENEVAL_LABELS = ("dog", "cup")


def picture(number: int, format: str = "PNG") -> bytes:
    """A square on a ground; near numbers look alike."""
    image = Image.new("RGB", (32, 32), (40 + 11 * (number % 19), 90, 200 - 9 * (number % 17)))
    ImageDraw.Draw(image).rectangle((4, 4, 10 + number % 12, 24), fill=COLOURS[number % len(COLOURS)])
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def write_orsta(folder: Path, count: int) -> None:
    """Parquet files named and laid out as those of Orsta-Data-47k, one of them with boxes as answers."""
    folder.mkdir(parents=True)

    def rows(start: int, ability: str, verifier: str) -> list[dict[str, object]]:
        return [
            orsta_row(
                data_source=ability,
                images=[{"bytes": picture(number), "path": f"{number}.png"}],
                prompt=[{"role": "user", "content": f"<image>\nWhich colour has square {number}?"}],
                ability=ability,
                reward_model={
                    "answer": COLOURS[number % len(COLOURS)],
                    "ground_truth": f"\\boxed{{{COLOURS[number % len(COLOURS)]}}}",
                    "accuracy_ratio": 1.0,
                    "format_ratio": 0.1,
                    "verifier": verifier,
                    "verifier_parm": {"det_verifier_normalized": True},
                },
                extra_info={"id": str(number), "image_path": f"{number}.png"},
            )
            for number in range(start, start + count)
        ]

    for start, (name, ability, verifier) in enumerate(
        [
            ("math_mmk12", "Math", "mathverify"),
            ("puzzle_puzzlevqa", "Puzzle", "mathverify"),
            ("detection_v3det", "Detection", "detection"),
        ]
    ):
        table = pa.Table.from_pylist(rows(start * count, ability, verifier))
        pq.write_table(table, folder / f"train_{name}_{count}.parquet")


def write_blip3o(folder: Path, count: int) -> None:
    """WebDataset tars of image and caption, named as those of BLIP3o-60k."""
    folder.mkdir(parents=True)
    for start, name in enumerate(("JourneyDB", "geneval")):
        members = []
        for number in range(1000 * start, 1000 * start + count):
            members.append((f"{number:06}.jpg", picture(number + 3, "JPEG")))
            members.append((f"{number:06}.txt", f"a square that is {COLOURS[(number + 3) % 6]}".encode()))
        tar_of(folder / f"{name}.tar", members)


def write_resnet(folder: Path) -> Path:
    """A tiny ResNet with the preprocessing of ResNet-50."""
    torch.manual_seed(0)
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 24], depths=[1, 1])).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


def write_hpsv2(folder: Path) -> list[str]:
    """A tiny HPSv2; returns the options of a run that name it."""
    folder.mkdir(parents=True)
    tensors = {name: torch.from_numpy(one) for name, one in tiny_hpsv2.weights(tiny_hpsv2.shapes()).items()}
    torch.save({"state_dict": tensors}, folder / "HPS_v2.1_compressed.pt")
    tiny_hpsv2.write_vocabulary(folder / "bpe_simple_vocab_16e6.txt.gz")
    return [
        f"--reward.hpsv2.checkpoint={folder / 'HPS_v2.1_compressed.pt'}",
        f"--reward.hpsv2.tokenizer={folder / 'bpe_simple_vocab_16e6.txt.gz'}",
    ]


def write_benchmarks(folder: Path) -> list[str]:
    """The files of recipes/paper/evaluation.toml below ``folder``; returns the options that name detector and CLIP."""
    cell = {"bytes": picture(0), "path": None}
    for subject in mmmu.SUBJECTS:
        row = {
            "id": f"validation_{subject}_1",
            "question": "Which of these is <image 1>?",
            "options": "['one', 'two']",
            "answer": "A",
            "question_type": "multiple-choice",
            **{f"image_{number}": cell if number == 1 else None for number in range(1, 8)},
        }
        _table(folder / "MMMU" / subject / "validation-00000-of-00001.parquet", [row])
    stars = [
        {
            "index": number,
            "question": "Which?\nOptions: A: one, B: two",
            "image": cell,
            "answer": "A",
            "category": category,
            "l2_category": "x",
            "meta_info": {"source": "s", "split": "val", "image_path": "x.png"},
        }
        for number, category in enumerate(mmstar.CATEGORIES)
    ]
    _table(folder / "MMStar" / "mmstar.parquet", stars)
    for category in mme.PERCEPTION:
        place = folder / "MME_Benchmark_release_version" / category
        _image(place / "0001.png")
        ask = "Please answer yes or no."
        (place / "0001.txt").write_text(f"Is it red? {ask}\tYes\nIs it blue? {ask}\tNo\n")
    for split in pope.SPLITS:
        rows = [
            {
                "question_id": 1,
                "image": "COCO_val2014_1.jpg",
                "text": "Is there a cup in the image?",
                "label": "yes",
            },
            {
                "question_id": 2,
                "image": "COCO_val2014_1.jpg",
                "text": "Is there a cat in the image?",
                "label": "no",
            },
        ]
        _lines(folder / "POPE" / "output" / "coco" / f"coco_pope_{split}.json", rows)
    _image(folder / "val2014" / "COCO_val2014_1.jpg")
    _lines(folder / "geneval" / "prompts" / "evaluation_metadata.jsonl", _geneval_prompts())
    _write_wise(folder / "WISE" / "WISE_legacy" / "data")
    (folder / "WISE" / "WISE_legacy" / "gpt_eval.py").write_text(JUDGE_SCRIPT)
    return [
        f"--geneval.detector={mask2former(folder / 'detector', GENEVAL_LABELS)}",
        f"--geneval.clip={clip(folder / 'clip')}",
    ]


def _geneval_prompts() -> list[dict[str, Any]]:
    dog, cup = {"class": "dog", "count": 1}, {"class": "cup", "count": 1}
    return [
        {"tag": "single_object", "include": [dog], "prompt": "a photo of a dog"},
        {"tag": "two_object", "include": [dog, cup], "prompt": "a photo of a dog and a cup"},
        {
            "tag": "counting",
            "include": [{"class": "cup", "count": 2}],
            "exclude": [{"class": "cup", "count": 3}],
            "prompt": "a photo of two cups",
        },
        {"tag": "colors", "include": [{**cup, "color": "red"}], "prompt": "a photo of a red cup"},
        {
            "tag": "position",
            "include": [dog, {**cup, "position": ["right of", 0]}],
            "prompt": "a photo of a cup right of a dog",
        },
        {
            "tag": "color_attr",
            "include": [{**dog, "color": "black"}, {**cup, "color": "blue"}],
            "prompt": "a photo of a black dog and a blue cup",
        },
    ]


def _write_wise(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, first, last in (
        ("cultural_common_sense", 1, 400),
        ("spatio-temporal_reasoning", 401, 700),
        ("natural_science", 701, 1000),
    ):
        rows = [
            {
                "Prompt": f"Thing {number}",
                "Explanation": "This refers to a thing",
                "Category": "x",
                "Subcategory": "y",
                "prompt_id": number,
            }
            for number in range(first, last + 1)
        ]
        (folder / f"{name}.json").write_text(json.dumps(rows))


def _table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(1, "JPEG" if path.suffix == ".jpg" else "PNG"))
