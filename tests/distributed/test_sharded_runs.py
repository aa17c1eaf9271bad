"""Runs whose weights are sharded by FSDP2, and runs with adapters, against one process with whole weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageStat
from safetensors.torch import load_file
from torch import Tensor

from pair_batches import make_pairs, run_settings
from pairuni.distributed.strategy import Replicate, Shard
from pairuni.distributed.world import World
from pairuni.pairgrpo.online_agreement import OnlineAgreement
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.records import Annotation
from pairuni.runs.metrics import MetricsLog
from ranks import run_ranks, values_of
from tiny_families import tiny_policy

TIMES = {"step_time", "rollout_time", "update_time", "tokens_per_second"}
LORA = {"rank": 3, "alpha": 6.0, "targets": ["q_proj", "v_proj", "down_proj"]}


class Letters:
    """Equal for all answers to question 2, so that a rank that has no other pair has no advantage."""

    name = "letters"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        scores = [sum(ord(letter) % 7 for letter in sample) / 10 for sample in samples]
        return [0.1 if "2" in one.question else score for one, score in zip(records, scores, strict=True)]


class Brightness:
    name = "brightness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        scores = [ImageStat.Stat(image.convert("L")).mean[0] / 255 for image in samples]
        return [0.1 if "2" in one.prompt else score for one, score in zip(records, scores, strict=True)]


@dataclass
class Trained:
    weights: dict[str, Tensor]
    rows: list[dict[str, Any]]
    dtypes: set[torch.dtype]


def train(
    world: World, folder: Path, out: Path, options: dict[str, Any], shard: dict[str, Any] | None
) -> Trained:
    options = dict(options)
    family, estimator = options.pop("family", "janus"), options.pop("estimator", {})
    policy = tiny_policy(family, torch.float64, folder=folder / "lumina", **estimator)
    lora, steps = options.pop("lora", None), options.pop("stop", 4)
    parts = ["language_model", "generation_head"] if family == "janus" else ["language_model"]
    settings = run_settings(
        logging={"samples_every": 3, "gradient_agreement": options.pop("agreement", False)},
        policy={"model": "tiny", "type": family, "trainable": parts, "lora": lora},
        rollout={"understanding": 3, "generation": 2, "guidance": 3.0, "max_new_tokens": 5},
        pairgrpo={
            "steps": steps,
            "pairs_per_batch": 3,
            "learning_rate": 1e-3,
            "micro_batch_tokens": 120 if family == "janus" else 2000,
        }
        | options,
    )
    with pytest.MonkeyPatch.context() as patched:
        # of these small matrices too, only some coordinates are read
        patched.setattr("pairuni.pairgrpo.trainer.OnlineAgreement", partial(OnlineAgreement, coordinates=50))
        trainer = Trainer(
            settings,
            policy,
            make_pairs(folder),
            Rewards(understanding=Letters(), generation=Brightness()),
            out,
            image_folder=folder,
            strategy=Replicate(world) if shard is None else Shard(world, "cpu", **shard),
        )
    trainer.run(resume=out.exists())
    rows = MetricsLog(out / "metrics.jsonl").rows()
    return Trained(
        {name: value.clone() for name, value in policy.inference_module.state_dict().items()},
        [{key: value for key, value in row.items() if key not in TIMES} for row in rows],
        {one.dtype for _, one in policy.trained()},
    )


CASES: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
    (2, {"pairs_per_batch": 2}, {}),
    (2, {"tasks": "alternating", "updates_per_step": 2}, {}),
    (3, {"beta": 0.2, "updates_per_step": 2, "agreement": True}, {"reshard_after_forward": False}),
    (2, {"beta": 0.2, "lora": LORA, "agreement": True}, {}),
    (2, {"family": "lumina_dimoo", "beta": 0.2, "agreement": True, "stop": 3}, {}),
    (2, {"family": "emu3", "beta": 0.2, "agreement": True, "stop": 3}, {}),
    (2, {"family": "lumina_dimoo", "lora": LORA, "estimator": {"estimator": "elbo"}, "stop": 2}, {}),
]


@pytest.mark.parametrize(("count", "options", "shard"), CASES, ids=str)
def test_a_sharded_run_equals_one_process(
    tmp_path: Path, count: int, options: dict[str, Any], shard: dict[str, Any]
) -> None:
    """In float64, but for log-probs in float32, whose rounding AdamW amplifies."""
    check(tmp_path, count, options, shard)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "options", "shard"),
    [
        (4, {"pairs_per_batch": 2, "batches_per_step": 2, "agreement": True}, {"shard_size": 2}),
        (2, {"lora": LORA}, None),
        (2, {"family": "lumina_dimoo", "estimator": {"shrink": 2}}, None),
    ],
    ids=str,
)
def test_shards_in_replicas_and_replicated_adapters(
    tmp_path: Path, count: int, options: dict[str, Any], shard: dict[str, Any] | None
) -> None:
    check(tmp_path, count, options, shard)


def check(tmp_path: Path, count: int, options: dict[str, Any], shard: dict[str, Any] | None) -> None:
    make_pairs(tmp_path)
    alone = train(World(), tmp_path, tmp_path / "alone", options, None)
    ranks = values_of(run_ranks(count, tmp_path / "ranks", train, tmp_path, tmp_path / "run", options, shard))
    measured = sum("gradient_agreement/layer_00" in row for row in alone.rows)
    assert (measured >= 3) == options.get("agreement", False)
    for row, other in zip(ranks[0].rows, alone.rows, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            # differences of float32 log-probs are rounding themselves
            tolerance = 1e-5 if "logp_difference" in name else 1e-6
            assert value == pytest.approx(other[name], rel=1e-6, abs=tolerance), name
    for rank in ranks:
        for name, value in rank.weights.items():
            torch.testing.assert_close(value, alone.weights[name], rtol=0, atol=1e-5)
    file = "adapter_model.safetensors" if "lora" in options else "model.safetensors"
    finals = [load_file(tmp_path / run / "final" / file) for run in ("alone", "run")]
    assert finals[0].keys() == finals[1].keys()
    for name, value in finals[0].items():
        torch.testing.assert_close(finals[1][name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("first", "then"), [("shard", "alone"), ("alone", "shard")])
def test_a_run_resumes_on_another_number_of_processes(tmp_path: Path, first: str, then: str) -> None:
    """Weights and moments are those of float64 checkpoints, so the resumed run equals an uninterrupted one."""
    make_pairs(tmp_path)
    expected = train(World(), tmp_path, tmp_path / "expected", {}, None)
    for way, stop in ((first, 2), (then, 4)):
        if way == "alone":
            found = train(World(), tmp_path, tmp_path / "run", {"stop": stop}, None)
        else:
            count = 2 if stop == 2 else 3
            folders = (tmp_path / f"ranks-{way}", train, tmp_path, tmp_path / "run")
            found = values_of(run_ranks(count, *folders, {"stop": stop}, {}))[0]
    assert [row["step"] for row in found.rows] == [row["step"] for row in expected.rows]
    for name, value in found.weights.items():
        torch.testing.assert_close(value, expected.weights[name], rtol=0, atol=1e-5)
