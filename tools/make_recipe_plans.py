"""Writes the plan in the comment of each full-size recipe, as ``pairuni train RECIPE --dry-run --gpus N`` prints it.

The command runs on folders with the model's configuration and a byte tokenizer, and on HPSv2 without its weights. A
plan needs sizes only, so nothing is downloaded.

python tools/make_recipe_plans.py
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, GenerationConfig

from benchmarks.lumina_shapes import write_skeleton
from benchmarks.shapes import SHAPES, byte_processor, janus_config
from pairuni.cli.training import train
from pairuni.pairug.dataset.store import write_pairs
from pairuni.policies.janus.prompts import IMAGE_TOKENS
from pairuni.records import Annotation, UGPair

RECIPES = Path(__file__).parents[1] / "recipes"

PLANS = {
    "janus_pro_1b": ("janus-pro-1b", 8, "H100 80GB"),
    "janus_pro_7b": ("janus-pro-7b", 8, "H100 80GB"),
    "janus_pro_1b_lora": ("janus-pro-1b", 1, "RTX 4090 24GB"),
    "janus_pro_7b_lora": ("janus-pro-7b", 1, "H100 80GB"),
    "lumina_dimoo": ("lumina-dimoo", 8, "H100 80GB"),
}
"""Recipe -> the shape of its model, the number of GPUs, and the GPU whose plan is shown."""


class HPSv2Sizes:
    """The model of HPSv2, a CLIP ViT-H/14 in float32, without its weights."""

    name = "hpsv2"

    def __init__(self) -> None:
        text = {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
        }
        vision = {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
        }
        config = CLIPConfig(
            text_config=text,
            vision_config={**vision, "patch_size": 14, "image_size": 224},
            projection_dim=1024,
        )
        with torch.device("meta"):
            self.models = (CLIPModel(config),)

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        raise RuntimeError("this reward has sizes only")


def output_of(recipe: Path, shape: str, gpus: int, folder: Path) -> str:
    """What the command prints for a recipe, from the parameters on; ``folder`` is for its inputs."""
    write_model(shape, folder / "model")
    Image.new("RGB", (4, 4)).save(folder / "image.png")
    side = Annotation(image_path="image.png", prompt="a lamp", question="What is it?", answer="a lamp")
    write_pairs(folder / "pairs.jsonl", [UGPair(similarity=1.0, understand_ann=side, generate_ann=side)])
    overrides = [
        f"--policy.model={folder / 'model'}",
        f"--data.pairs={folder / 'pairs.jsonl'}",
        "--reward.generation=tools.make_recipe_plans:HPSv2Sizes",
        "--evaluation.every=0",
    ]
    said = io.StringIO()
    with redirect_stdout(said):
        train(recipe, overrides, None, resume=False, dry_run=True, gpus=gpus)
    return said.getvalue().partition("\nparameters")[2]


def with_plan(recipe: str) -> str:
    """The text of the recipe with its plan."""
    shape, gpus, card = PLANS[recipe]
    path = RECIPES / f"{recipe}.toml"
    with tempfile.TemporaryDirectory() as folder:
        lines = ("parameters" + output_of(path, shape, gpus, Path(folder))).splitlines()
    start = lines.index(next(line for line in lines if line.startswith(f"{gpus} x {card}")))
    end = next(index for index in range(start + 1, len(lines)) if not lines[index].startswith("  "))
    last = next(index for index, line in enumerate(lines) if line.startswith("estimate"))
    shown = [lines[0], *lines[start:end], *lines[last:]]
    title = f"# The plan, by --dry-run --gpus {gpus} (tools/make_recipe_plans.py):"
    plan = "\n".join([title, "#", *(f"#   {line}" for line in shown)])
    text = path.read_text(encoding="utf-8")
    bare = re.sub(r"#\n# The plan, by [^\n]*\n(#[^\n]*\n)+", "", text)
    comment, blank, settings = bare.partition("\n\n")
    return f"{comment}\n#\n{plan}{blank}{settings}"


def write_model(name: str, folder: Path) -> None:
    """Write the configuration of a model of this shape and a byte tokenizer, without weights."""
    if name == "lumina-dimoo":
        write_skeleton(folder)
        return
    shape = SHAPES[name]
    processor = byte_processor(shape)
    tokenizer = processor.tokenizer
    janus_config(shape, processor, shape.vocabulary).save_pretrained(folder)
    processor.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generation_kwargs={"boi_token_id": tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["boi_token"])},
    ).save_pretrained(folder)


if __name__ == "__main__":
    for name in PLANS:
        (RECIPES / f"{name}.toml").write_text(with_plan(name), encoding="utf-8")
        print(RECIPES / f"{name}.toml")
