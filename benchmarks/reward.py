"""`python -m benchmarks reward`: images per second of a CLIP reward such as HPSv2, with random weights.

Every repeat runs in a separate process, which has its own peak memory; contenders take turns.
``python -m benchmarks.reward CONTENDER SETTINGS`` prints the JSON object of one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from benchmarks.child import alternate_modules
from benchmarks.hardware import peak_memory, start_memory, synchronise
from benchmarks.settings import RewardBenchSettings
from benchmarks.timing import Timing
from pairuni.rewards.clip.preprocessing import tensor_first
from pairuni.rewards.clip.scorer import ClipScorer

OURS = "pairuni"
ADDS = {
    "one-at-a-time": "the original's loop with the checkpoint already loaded: an image and its prompt, 77 tokens",
    "prompts-kept": "features of a prompt computed once for all its images",
    OURS: "images in one batch",
}
"""Descriptions of the contenders."""

SHAPES: dict[str, dict[str, dict[str, int]]] = {
    "small": {
        "vision": {"hidden_size": 160, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56},
        "text": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 514},
    },
    "vit-h-14": {
        "vision": {
            "hidden_size": 1280,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "image_size": 224,
        },
        "text": {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "vocab_size": 49408,
        },
    },
}
"""Models by name; vit-h-14 is the model of HPSv2 and PickScore, small has the same kind of layers."""


def build(settings: RewardBenchSettings) -> ClipScorer:
    """A scorer with random weights and a vocabulary of bytes, with HPSv2's preprocessing of images."""
    shape, device = SHAPES[settings.model], torch.device(settings.device)
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[])
    wide = {tower: {"intermediate_size": 4 * sizes["hidden_size"]} for tower, sizes in shape.items()}
    marks = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    torch.manual_seed(settings.seed)
    with device:
        model = CLIPModel(
            CLIPConfig(
                text_config={**shape["text"], **wide["text"], **marks, "hidden_act": "gelu"},
                vision_config={**shape["vision"], **wide["vision"], "patch_size": 14, "hidden_act": "gelu"},
                projection_dim=shape["text"]["hidden_size"],
            )
        )
    size = shape["vision"]["image_size"]
    return ClipScorer(
        model,
        tokenizer,
        partial(tensor_first, size=size, device=device),
        device=device,
        dtype=getattr(torch, settings.dtype),
    )


def workload(settings: RewardBenchSettings) -> tuple[list[str], list[Image.Image]]:
    """Prompts of about a dozen words, each repeated for its images, and images of noise."""
    rng = np.random.default_rng(settings.seed)
    prompts = [
        f"a photo of {place} small red cups on a wooden table in the sun" for place in range(settings.prompts)
    ]
    count, side = settings.prompts * settings.rollouts, settings.side
    images = [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]
    return [prompt for prompt in prompts for _ in range(settings.rollouts)], images


def contenders(
    scorer: ClipScorer,
) -> dict[str, Callable[[Sequence[str], Sequence[Image.Image]], list[float]]]:
    """name -> the function that scores images in this way."""
    return {
        "one-at-a-time": partial(_one_at_a_time, scorer),
        "prompts-kept": partial(scorer.cosines, batch_size=1),
        OURS: partial(scorer.cosines, batch_size=64),
    }


@torch.inference_mode()
def _one_at_a_time(scorer: ClipScorer, prompts: Sequence[str], images: Sequence[Image.Image]) -> list[float]:
    scores = []
    for prompt, one in zip(prompts, images, strict=True):
        image = scorer.image_features([one])
        rows = scorer.tokenizer([prompt], padding="max_length", truncation=True, max_length=77)["input_ids"]
        pooled = scorer.model.text_model(input_ids=torch.tensor(rows, device=scorer.device)).pooler_output
        text = normalize(scorer.model.text_projection(pooled).float(), dim=1)
        scores.append(float((image * text).sum()))
    return scores


def score(name: str, settings: RewardBenchSettings) -> dict[str, Any]:
    """Run one contender after a warm-up on other prompts: seconds, memory, scores."""
    scorer = build(settings)
    prompts, images = workload(settings)
    work = contenders(scorer)[name]
    work([f"{prompt}, once more" for prompt in prompts], images)
    start = start_memory(scorer.device)
    synchronise(scorer.device)
    began = time.perf_counter()
    scores = work(prompts, images)
    synchronise(scorer.device)
    seconds = time.perf_counter() - began
    peak = peak_memory(scorer.device)
    return {"seconds": seconds, "start_bytes": start, "peak_bytes": peak, "scores": scores}


def measure(settings: RewardBenchSettings) -> dict[str, Any]:
    """Medians of the contenders, which take turns, and the speed-up over one image at a time."""
    made = alternate_modules(
        "benchmarks.reward",
        ADDS,
        settings.model_dump_json(),
        settings.repeats,
        lambda run: float(run["seconds"]),
    )
    rows = {}
    for name, runs in made.items():
        timing = Timing(seconds=[run["seconds"] for run in runs])
        peaks = {key: max(run[key] for run in runs) for key in ("start_bytes", "peak_bytes")}
        speed = settings.prompts * settings.rollouts / timing.median
        rows[name] = {**timing.to_dict(), "images_per_second": speed, **peaks}
    alone, ours = (np.asarray(made[name][0]["scores"]) for name in ("one-at-a-time", OURS))
    return {
        "contenders": rows,
        "times_faster": rows["one-at-a-time"]["seconds"] / rows[OURS]["seconds"],
        "score_difference": float(np.abs(alone - ours).max()),
    }


if __name__ == "__main__":
    print(json.dumps(score(sys.argv[1], RewardBenchSettings.model_validate_json(sys.argv[2]))))
