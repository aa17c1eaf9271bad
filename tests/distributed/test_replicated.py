"""A run of several processes against one process on the same global batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, make_pairs, run_settings
from pairuni.distributed.strategy import Replicate
from pairuni.distributed.world import World
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.records import Annotation
from pairuni.runs.metrics import MetricsLog
from ranks import run_ranks, values_of

TIMES = {"step_time", "rollout_time", "update_time", "tokens_per_second"}
FLAT = "2"
"""The pair whose rewards are all equal, so that a rank that has no other has no advantage."""


class FlatAnswer:
    name = "flat-answer"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        scores = REWARDS.understanding(records, samples)
        return [0.1 if FLAT in one.question else score for one, score in zip(records, scores, strict=True)]


class FlatRedness:
    name = "flat-redness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        scores = REWARDS.generation(records, samples)
        return [0.1 if FLAT in one.prompt else score for one, score in zip(records, scores, strict=True)]


class RecordingPolicy(FakePolicy):
    """Keeps the tokens of every sample by seed and place of its prompt."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.sampled: dict[tuple[str, int, int], list[list[int]]] = {}

    def sample_text(self, request: Any) -> Any:
        return self._kept("text", request, super().sample_text(request))

    def sample_images(self, request: Any) -> Any:
        return self._kept("image", request, super().sample_images(request))

    def _kept(self, kind: str, request: Any, groups: Any) -> Any:
        for index, group in enumerate(groups):
            place = (kind, request.seed, request.first_prompt + index)
            self.sampled[place] = [one.tokens.tolist() for one in group]
        return groups


class Padded(Replicate):
    """Replicates, with as many micro-batches on each rank as sharding needs."""

    equal_micro_batches = True


@dataclass
class Trained:
    weights: dict[str, Tensor]
    sampled: dict[tuple[str, int, int], list[list[int]]]
    rows: list[dict[str, Any]]
    replays: list[int] = field(default_factory=list)


def train(world: World, folder: Path, out: Path, options: dict[str, Any], *, padded: bool = False) -> Trained:
    options = dict(options)
    policy = RecordingPolicy(getattr(torch, options.pop("dtype", "float64")))
    replays = []

    class Counting(Padded if padded else Replicate):  # type: ignore[misc]
        def collect(self, optimizer: Any) -> None:
            replays.append(policy.replays)
            policy.replays = 0
            super().collect(optimizer)

    base = {"steps": 5, "pairs_per_batch": 3, "learning_rate": 0.05, "micro_batch_tokens": 30}
    rollout = ROLLOUT.model_dump() | ({"understanding": 4} if "unified_reward" in options else {})
    rollout["resample"] = options.pop("resample", 0)
    logging = {"samples_every": 2, "gradient_agreement": options.pop("agreement", False)}
    settings = run_settings(
        rollout=rollout, pairgrpo=base | options, checkpoint={"every": 2}, logging=logging
    )
    rewards = Rewards(understanding=FlatAnswer(), generation=FlatRedness())
    trainer = Trainer(
        settings, policy, make_pairs(folder), rewards, out, image_folder=folder, strategy=Counting(world)
    )
    assert trainer.run().steps == 5
    rows = MetricsLog(out / "metrics.jsonl").rows()
    return Trained(
        {name: value.detach().clone() for name, value in policy.module.state_dict().items()},
        policy.sampled,
        [{key: value for key, value in row.items() if key not in TIMES} for row in rows],
        replays,
    )


def train_padded(world: World, folder: Path, out: Path, options: dict[str, Any]) -> Trained:
    return train(world, folder, out, options, padded=True)


OPTIONS: list[tuple[int, dict[str, Any]]] = [
    (2, {"pairs_per_batch": 2}),
    (2, {"truncated": "mask", "token_reduction": "token-mean", "pairs_per_batch": 2}),
    (2, {"resample": 2, "pairs_per_batch": 2}),
    (2, {"tasks": "alternating", "updates_per_step": 2, "pairs_per_batch": 2}),
    (2, {"beta": 0.2, "updates_per_step": 2, "token_reduction": "token-mean", "agreement": True}),
    (
        3,
        {
            "pairs_per_batch": 2,
            "batches_per_step": 2,
            "unified_reward": 0.8,
            "generation_weight": 0.5,
            "max_grad_norm": 0.05,
            "agreement": True,
        },
    ),
]


@pytest.mark.parametrize("work", [train, train_padded], ids=["replicate", "padded"])
@pytest.mark.parametrize(("count", "options"), OPTIONS, ids=str)
def test_a_run_does_not_depend_on_its_number_of_processes(
    tmp_path: Path, count: int, options: dict[str, Any], work: Any
) -> None:
    """In float64, so that no rounding hides a mistake; measured: weights to 1e-11, metrics to 2e-12."""
    alone, ranks = both(tmp_path, count, options, work)
    for rank in ranks:
        for name, value in rank.weights.items():
            assert torch.allclose(value, alone.weights[name], rtol=0, atol=1e-9), name
    for row, other in zip(ranks[0].rows, alone.rows, strict=True):
        assert row == pytest.approx(other, rel=1e-9, abs=1e-9)
    assert any("gradient_agreement" in row for row in alone.rows) == options.get("agreement", False)
    counts = list(zip(*(rank.replays for rank in ranks), strict=True))
    if work is train_padded:
        assert all(len(set(row)) == 1 for row in counts)
    else:
        assert any(len(set(row)) > 1 for row in counts)
        assert options.get("beta") or any(0 in row for row in counts)


@pytest.mark.parametrize(("count", "options"), OPTIONS[1:], ids=str)
def test_float32_differs_by_rounding(tmp_path: Path, count: int, options: dict[str, Any]) -> None:
    """AdamW divides by the gradient's size, so where the gradient is 0 but for rounding, its rounding shows."""
    rate = 1e-4
    alone, ranks = both(tmp_path, count, options | {"dtype": "float32", "learning_rate": rate}, train)
    for row, other in zip(ranks[0].rows, alone.rows, strict=True):
        assert row == pytest.approx(other, rel=1e-6, abs=1e-6)
    differences = torch.cat(
        [(value - alone.weights[name]).abs().flatten() for name, value in ranks[0].weights.items()]
    )
    assert float((differences > 1e-6).double().mean()) < 0.05
    assert float(differences.max()) < rate


def both(tmp_path: Path, count: int, options: dict[str, Any], work: Any) -> tuple[Trained, list[Trained]]:
    """The run in one process and in ``count``, whose ranks agree exactly and sample the same tokens together."""
    make_pairs(tmp_path)
    alone = train(World(), tmp_path, tmp_path / "alone", options)
    ranks = values_of(run_ranks(count, tmp_path / "ranks", work, tmp_path, tmp_path / "run", options))
    sampled: dict[Any, Any] = {}
    for rank in ranks:
        assert not sampled.keys() & rank.sampled.keys()
        sampled |= rank.sampled
        assert rank.rows == ranks[0].rows
        assert all(torch.equal(value, ranks[0].weights[name]) for name, value in rank.weights.items())
    assert sampled == alone.sampled
    assert [row.keys() for row in ranks[0].rows] == [row.keys() for row in alone.rows]
    return alone, ranks
