"""Pairs, rewards and settings that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.config import PairGRPOSettings, RolloutSettings, RunSettings
from pairuni.pairgrpo.rollout import Rewards
from pairuni.records import Annotation, UGPair


class RightAnswer:
    """Graded, so that most groups have spread: 1 for the right word, else a little for short answers."""

    name = "right-answer"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        return [
            1.0 if sample == record.answer else -0.1 * len(sample)
            for record, sample in zip(records, samples, strict=True)
        ]


class Redness:
    """Share of red cells."""

    name = "redness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        return [sum(pixel == (255, 0, 0) for pixel in picture.getdata()) / 4 for picture in samples]


class Constant:
    name = "constant"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        return [0.1] * len(samples)


REWARDS = Rewards(understanding=RightAnswer(), generation=Redness())
SIMILARITIES = (1.0, 0.81, 0.64, 0.7, 0.9)
ROLLOUT = RolloutSettings(understanding=5, generation=4, guidance=2.0, max_new_tokens=6)


def make_pairs(folder: Path, similarities: Sequence[float] = SIMILARITIES) -> list[UGPair]:
    """Pairs with real images in ``folder``; those of similarity 1 are aligned."""
    pairs = []
    for index, similarity in enumerate(similarities):
        sides = []
        for side in "ug" if similarity < 1.0 else "a":
            name = f"{index}{side}.png"
            Image.new("RGB", (4, 4), (40 * index, 10, 10)).save(folder / name)
            sides.append(
                Annotation(
                    image_path=name, prompt=f"draw {index}{side}", question=f"which {index}?", answer="A"
                )
            )
        pairs.append(UGPair(similarity=similarity, understand_ann=sides[0], generate_ann=sides[-1]))
    return pairs


def grpo(**changes: Any) -> PairGRPOSettings:
    return PairGRPOSettings(**({"learning_rate": 0.05, "max_grad_norm": 1e9, "std_eps": 1e-4} | changes))


def run_settings(**sections: Any) -> RunSettings:
    """A short run on the fake policy; a section given replaces the one here."""
    base = {
        "seed": 3,
        "policy": {"model": "tiny"},
        "data": {"pairs": "pairs.jsonl"},
        "rollout": ROLLOUT.model_dump(),
        "pairgrpo": {"steps": 6, "pairs_per_batch": 2, "learning_rate": 0.05, "warmup_steps": 2},
        "checkpoint": {"every": 2, "keep": 2},
        "logging": {"samples_every": 3},
    }
    return RunSettings.model_validate(base | sections)
