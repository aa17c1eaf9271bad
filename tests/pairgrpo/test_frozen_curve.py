"""Twenty training steps on a tiny random Janus in float64, against a curve stored in tests/reference.

Float64 weights make the curve the same on every machine: a change of the numbers is a change of the algorithm, the
random streams or the model.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from pair_batches import make_pairs
from pairuni.config import RunSettings
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.trajectories import ImageTrajectory, TextTrajectory
from pairuni.records import Annotation
from pairuni.runs.metrics import MetricsLog
from tiny_models import tiny_janus

CURVE = Path(__file__).parents[1] / "reference" / "frozen_curve.json"
SCALARS = (
    "loss",
    "reward",
    "grad_norm",
    "kl",
    "clip_ratio/region_mean",
    "pair_weight",
    "learning_rate",
    "num_tokens",
)
SETTINGS = {
    "seed": 11,
    "data": {"pairs": "pairs.jsonl"},
    "policy": {"model": "random", "trainable": ["language_model", "generation_head"]},
    "rollout": {"understanding": 3, "generation": 3, "guidance": 3.0, "max_new_tokens": 6},
    "pairgrpo": {
        "steps": 20,
        "pairs_per_batch": 2,
        "batches_per_step": 2,
        "updates_per_step": 2,
        "micro_batch_tokens": 400,
        "learning_rate": 3e-4,
        "warmup_steps": 4,
        "weight_decay": 0.01,
        "beta": 0.05,
        "generation_weight": 0.7,
    },
    "logging": {"samples_every": 0},
}


class LetterSum:
    name = "letter-sum"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        return [sum(ord(letter) % 7 for letter in sample) / 10 for sample in samples]


class Brightness:
    name = "brightness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        return [ImageStat.Stat(image.convert("L")).mean[0] / 255 for image in samples]


class RecordingPolicy(JanusPolicy):
    """Keeps a digest of the tokens of each ``sample`` call."""

    digests: list[str]

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[TextTrajectory]], list[list[ImageTrajectory]]]:
        sampled = super().sample(texts, images)
        tokens = [one.tokens.tolist() for groups in sampled for group in groups for one in group]
        self.digests.append(hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:16])
        return sampled


def training_curve(folder: Path) -> list[dict[str, object]]:
    """One row per step: metric scalars and token digests of both batches."""
    model, processor = tiny_janus()
    policy = RecordingPolicy(model.double(), processor)
    policy.digests = []
    pairs = make_pairs(folder, (1.0, 0.81, 0.64, 0.7, 0.9, 1.0))
    rewards = Rewards(understanding=LetterSum(), generation=Brightness())
    settings = RunSettings.model_validate(SETTINGS)
    Trainer(settings, policy, pairs, rewards, folder / "run", image_folder=folder).run()
    rows = MetricsLog(folder / "run" / "metrics.jsonl").rows()
    assert len(policy.digests) == 2 * len(rows)
    return [
        {name: row[name] for name in SCALARS} | {"tokens": policy.digests[2 * index : 2 * index + 2]}
        for index, row in enumerate(rows)
    ]


def test_training_follows_the_stored_curve(tmp_path: Path) -> None:
    stored = json.loads(CURVE.read_text())
    curve = training_curve(tmp_path)
    assert len(curve) == len(stored) == 20
    for step, (row, wanted) in enumerate(zip(curve, stored, strict=True), start=1):
        assert row["tokens"] == wanted["tokens"], step
        scalars = {name: row[name] for name in SCALARS}
        assert scalars == pytest.approx({name: wanted[name] for name in SCALARS}, rel=1e-5, abs=1e-6), step
