"""The online gradient agreement against the exact one, and runs that measure it against runs that do not."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, Constant, grpo, make_pairs, run_settings
from pairuni.distributed.strategy import Replicate
from pairuni.distributed.world import World
from pairuni.pairgrpo import online_agreement
from pairuni.pairgrpo.agreement import gradient_agreement, group_of, task_gradient
from pairuni.pairgrpo.batch import RolloutBatch
from pairuni.pairgrpo.online_agreement import OnlineAgreement
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.pairgrpo.trainer import Trainer
from pairuni.runs.metrics import MetricsLog
from pairuni.training.optimizer import NamedAdamW


def sampled(folder: Path, policy: FakePolicy, rewards: Rewards = REWARDS) -> RolloutBatch:
    return rollout_batch(policy, make_pairs(folder), ROLLOUT, rewards, seed=1, image_folder=folder)


def measured(policy: FakePolicy, batch: RolloutBatch, seed: int = 0, **options: Any) -> dict[str, float]:
    """The agreements among the metrics of one update."""
    optimizer = NamedAdamW(policy.train_only(["language_model"]), learning_rate=0.05)
    settings, reference = grpo(**options), policy.reference() if options.get("beta") else None
    agreement = OnlineAgreement(optimizer.masters, seed=seed)
    row = update(
        policy,
        batch,
        optimizer,
        settings,
        step=1,
        learning_rate=0.05,
        reference=reference,
        agreement=agreement,
    )
    return {name: value for name, value in row.items() if name.startswith("gradient_agreement")}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_of_small_parameters_it_is_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    """Weights, clipping and a second update leave it as it is; what one task alone trains has no agreement."""
    policy = FakePolicy(dtype)
    batch = sampled(tmp_path, policy)
    exact = gradient_agreement(policy, batch, policy.train_only(["language_model"]), grpo())
    options = {
        "generation_weight": 0.3,
        "max_grad_norm": 1e-3,
        "updates_per_step": 2,
        "micro_batch_tokens": 20,
    }
    online = measured(policy, batch, **options)
    assert online == pytest.approx(exact, rel=1e-5 if dtype == torch.float64 else 0.05)
    assert abs(online["gradient_agreement"]) > 1e-3
    assert abs(online["gradient_agreement/shared"]) == 1.0  # a single number


def test_a_kl_term_belongs_to_its_task(tmp_path: Path) -> None:
    """At the reference, the KL's gradient is zero, so the first update measures the rewards alone."""
    policy = FakePolicy(torch.float64)
    batch = sampled(tmp_path, policy)
    assert measured(FakePolicy(torch.float64), batch, beta=0.5)["gradient_agreement"] == pytest.approx(
        measured(policy, batch)["gradient_agreement"]
    )


def test_no_cosine_with_a_gradient_of_zero(tmp_path: Path) -> None:
    policy = FakePolicy()
    rewards = Rewards(understanding=Constant(), generation=REWARDS.generation)
    assert measured(policy, sampled(tmp_path, policy, rewards)) == {}
    assert measured(policy, sampled(tmp_path, policy), understanding_weight=0.0) == {}


def test_samples_estimate_dot_products_without_bias() -> None:
    """Over many seeds, the mean of an estimate is the value itself, also where the intervals do not end at numbers."""
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 70_001, generator=draw, dtype=torch.float64) for _ in range(2))
    second += 0.3 * first
    exact = float((first * second).sum())
    estimates = []
    for seed in range(60):
        drawn = online_agreement._drawn(first.numel(), 4096, seed)
        assert len(drawn) == 4096
        assert torch.equal(drawn, drawn.sort().values)
        products = first.take(drawn) * second.take(drawn)
        estimates.append(float(products.sum()) * first.numel() / len(drawn))
    spread = torch.tensor(estimates).std().item()
    assert abs(sum(estimates) / len(estimates) - exact) < 3 * spread / len(estimates) ** 0.5
    assert spread < 0.1 * exact


def test_a_sampled_cosine_is_near_the_exact_one() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1000, 400, generator=draw) for _ in range(2))
    second += 0.4 * first
    agreement = OnlineAgreement({"model.layers.7.weight": first}, seed=0, coordinates=4096)
    values = [agreement.read({"model.layers.7.weight": one}) for one in (first, first + second)]
    assert len(values[0]) == 4096
    found = agreement.metrics(*values, Replicate(World()))
    exact = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0).item()
    assert found["gradient_agreement/layer_07"] == pytest.approx(exact, abs=0.05)
    other = OnlineAgreement({"model.layers.7.weight": first}, seed=1, coordinates=4096)
    assert not torch.equal(other.read({"model.layers.7.weight": first}), values[0])


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.language_model.layers.3.mlp.up_proj.weight", "layer_03"),
        ("model.text_model.layers.7.mlp.up_proj.weight", "layer_07"),
        (
            "base_model.model.model.language_model.layers.11.self_attn.q_proj.lora_A.default.weight",
            "layer_11",
        ),
        ("language_model.layers.0.self_attn.q_proj.base_layer.weight", "layer_00"),
        ("model.generation_head.proj_out.bias", "generation_head"),
        ("model.vision_model.encoder.layers.0.mlp.fc1.weight", "vision_model"),
        ("model.language_model.embed_tokens.weight", "embeddings"),
        ("model.language_model.norm.weight", "norm"),
        ("lm_head.weight", "lm_head"),
        ("words", "words"),
    ],
)
def test_groups_of_parameters(name: str, group: str) -> None:
    assert group_of(name) == group


def run(
    folder: Path, out: str, measure: bool, steps: int = 6, **changes: Any
) -> tuple[Any, list[dict[str, Any]]]:
    settings = run_settings(
        logging={"samples_every": 0, "gradient_agreement": measure},
        pairgrpo={
            "steps": steps,
            "pairs_per_batch": 2,
            "learning_rate": 0.05,
            "updates_per_step": 2,
            "micro_batch_tokens": 30,
        },
        **changes,
    )
    policy = FakePolicy(torch.float64)
    trainer = Trainer(settings, policy, make_pairs(folder), REWARDS, folder / out, image_folder=folder)
    trainer.run(resume=(folder / out).exists())
    return load_file(folder / out / "final" / "model.safetensors"), MetricsLog(
        folder / out / "metrics.jsonl"
    ).rows()


def test_a_run_that_measures_trains_the_same_weights_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # few coordinates, so that other ones would give another number
    monkeypatch.setattr("pairuni.pairgrpo.trainer.OnlineAgreement", partial(OnlineAgreement, coordinates=8))
    weights, rows = run(tmp_path, "on", True)
    plain, others = run(tmp_path, "off", False)
    for name, value in plain.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-9)
    added = {name for row in rows for name in row} - {name for row in others for name in row}
    assert added == {"gradient_agreement", "gradient_agreement/shared"}
    run(tmp_path, "resumed", True, steps=3)
    again, resumed = run(tmp_path, "resumed", True)
    assert [row.get("gradient_agreement") for row in resumed] == [
        row.get("gradient_agreement") for row in rows
    ]
    assert all(torch.equal(value, weights[name]) for name, value in again.items())


def test_the_two_gradients_add_up(tmp_path: Path) -> None:
    """The difference of the two readings is the generation gradient."""
    policy = FakePolicy(torch.float64)
    batch = sampled(tmp_path, policy)
    parameters = policy.train_only(["language_model"])
    readings = []

    class Kept(OnlineAgreement):
        def read(self, gradients: Any) -> Any:
            readings.append(super().read(gradients))
            return readings[-1]

    optimizer = NamedAdamW(parameters, learning_rate=0.05)
    expected = task_gradient(policy, batch, parameters, grpo(), "generation")
    kept = Kept(optimizer.masters, seed=0)
    update(policy, batch, optimizer, grpo(updates_per_step=3), step=1, learning_rate=0.05, agreement=kept)
    assert len(readings) == 2
    flat = torch.cat([one.flatten() for one in expected]).double()
    torch.testing.assert_close(readings[1] - readings[0], flat, rtol=1e-5, atol=1e-8)
