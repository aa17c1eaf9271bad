"""Training steps and a run on a tiny random policy of each family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from literal_loss import literal_loss
from PIL import Image, ImageStat

from pair_batches import grpo, make_pairs, run_settings
from pairuni.config import RolloutSettings
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.pairgrpo.trainer import Trainer
from pairuni.policies.registry import load_policy
from pairuni.records import TASKS, Annotation
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints, load_checkpoint
from pairuni.training.optimizer import NamedAdamW
from tiny_families import tiny_policy

PARTS = {
    "janus": ["language_model", "generation_head"],
    "lumina_dimoo": ["language_model"],
    "emu3": ["language_model"],
}
ROLLOUT = RolloutSettings(understanding=3, generation=2, guidance=3.0, max_new_tokens=5)
POLICIES: list[tuple[str, dict[str, Any]]] = [
    ("janus", {}),
    ("lumina_dimoo", {}),
    ("lumina_dimoo", {"shrink": 2}),
    ("lumina_dimoo", {"estimator": "elbo", "elbo_pairs": 2}),
    ("emu3", {}),
]
"""Families, and their settings."""
FEW = {"janus": 60, "lumina_dimoo": 800, "emu3": 300}
"""Tokens of small micro-batches."""


class Letters:
    name = "letters"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        return [sum(ord(letter) % 7 for letter in sample) / 10 for sample in samples]


class Brightness:
    name = "brightness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        return [ImageStat.Stat(image.convert("L")).mean[0] / 255 for image in samples]


REWARDS = Rewards(understanding=Letters(), generation=Brightness())


def moved(family: str, settings: dict[str, Any], seed: int) -> Any:
    """A policy whose weights are a little different, in float64."""
    policy = tiny_policy(family, torch.float64, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in policy.train_only(PARTS[family]):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.02 * noise
    return policy


@pytest.mark.parametrize(("family", "settings"), POLICIES, ids=str)
@pytest.mark.parametrize("options", [{"beta": 0.3, "micro_batch_tokens": None}, {"clip_low": 0.02}], ids=str)
def test_gradient_matches_the_equations(
    tmp_path: Path, family: str, settings: dict[str, Any], options: dict[str, Any]
) -> None:
    """Old, current and reference weights all differ, so that ratio, clipping and KL take effect."""
    chosen = grpo(**({"micro_batch_tokens": FEW[family]} | options))
    old, current, reference = (moved(family, settings, seed) for seed in (0, 1, 2))
    pairs = make_pairs(tmp_path, (1.0, 0.64))
    batch = rollout_batch(old, pairs, ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    assert all(batch.task(task).advantages.any() for task in TASKS)
    frozen = reference.reference()
    parts = micro_batches(current, batch, chosen, TASKS)
    assert (len(parts) > 1) == (chosen.micro_batch_tokens is not None)
    total = 0.0
    for part in parts:
        with torch.no_grad():
            part.old_log_probs = old.log_probs(part.trajectories).values
        part.reference_log_probs = frozen.log_probs(part.trajectories)
        loss = part.loss(current, chosen)
        loss.backward()
        total += float(loss.detach())
    ours = {name: p.grad.clone() for name, p in current.trained() if p.grad is not None}
    current.module.zero_grad()
    expected = literal_loss(current, batch, chosen, old, reference)
    expected.backward()
    assert total == pytest.approx(float(expected.detach()), rel=1e-5, abs=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in ours.values())
    assert largest > 0.01
    for name, parameter in current.trained():
        assert (parameter.grad is None) == (name not in ours), name
        if name in ours:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize(("family", "settings"), POLICIES, ids=str)
def test_ratio_and_micro_batches(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    policy = tiny_policy(family, **settings)
    parameters = policy.train_only(PARTS[family])
    pairs = make_pairs(tmp_path, (1.0, 0.81, 0.64))
    batch = rollout_batch(policy, pairs, ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    gradients = {}
    for size in (None, FEW[family], 1):
        policy.module.zero_grad()
        for part in micro_batches(policy, batch, grpo(micro_batch_tokens=size), TASKS):
            part.loss(policy, grpo()).backward()
            again = policy.log_probs(part.trajectories).values
            assert part.old_log_probs is not None
            assert torch.equal(again, part.old_log_probs)
        gradients[size] = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for _, p in parameters]
    for cuts in (gradients[size] for size in gradients if size is not None):
        for full, cut in zip(gradients[None], cuts, strict=True):
            torch.testing.assert_close(cut, full, rtol=1e-4, atol=1e-6 + 1e-4 * float(full.abs().max()))
    assert sum(float(gradient.abs().sum()) for gradient in gradients[1]) > 0.1

    optimizer = NamedAdamW(parameters, learning_rate=1e-3)
    metrics = update(
        policy,
        batch,
        optimizer,
        grpo(micro_batch_tokens=FEW[family], updates_per_step=2, beta=0.1),
        step=1,
        learning_rate=1e-3,
        reference=policy.reference(),
    )
    for task in TASKS:
        # with several steps in a state, decisions are not scored where they were made
        if settings.get("shrink", 1) == 1:
            assert metrics[f"{task}/sampling/sampling_logp_difference/max"] < 1e-4
        assert metrics[f"{task}/reward_std"] > 0
        assert metrics[f"{task}/kl"] > 0
    assert metrics["grad_norm"] > 0


@pytest.mark.parametrize("family", PARTS)
def test_the_reference_stays_as_it_was(tmp_path: Path, family: str) -> None:
    policy = tiny_policy(family)
    parameters = policy.train_only(PARTS[family])
    reference = policy.reference()
    batch = rollout_batch(
        policy, make_pairs(tmp_path, (1.0,)), ROLLOUT, REWARDS, seed=1, image_folder=tmp_path
    )
    trajectories = [one for task in TASKS for one in batch.task(task).trajectories]
    before = policy.log_probs(trajectories).values.detach()
    assert torch.equal(reference.log_probs(trajectories), before)
    with torch.no_grad():
        for _, parameter in parameters:
            parameter.mul_(1.1)
    assert torch.equal(reference.log_probs(trajectories), before)
    assert not torch.equal(policy.log_probs(trajectories).values, before)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("janus", {}),
        ("janus", {"beta": 0.05, "updates_per_step": 2, "micro_batch_tokens": 60}),
        ("lumina_dimoo", {"beta": 0.05, "updates_per_step": 2, "micro_batch_tokens": 800}),
        ("emu3", {"beta": 0.05, "updates_per_step": 2, "micro_batch_tokens": 300}),
    ],
    ids=str,
)
def test_resumed_equals_uninterrupted(tmp_path: Path, family: str, options: dict[str, float]) -> None:
    grpo_section = {"steps": 3, "pairs_per_batch": 2, "learning_rate": 1e-3} | options
    policy_section = {"model": "tiny", "type": family, "trainable": PARTS[family]}
    settings = run_settings(
        policy=policy_section,
        pairgrpo=grpo_section,
        rollout=ROLLOUT.model_dump(),
        checkpoint={"every": 1, "keep": 3},
        logging={"samples_every": 2},
    )
    pairs = make_pairs(tmp_path)

    def trainer(out: Path) -> Trainer:
        return Trainer(settings, tiny_policy(family), pairs, REWARDS, out, image_folder=tmp_path)

    full, cut = tmp_path / "full", tmp_path / "cut"
    trainer(full).run()
    before = {name: p.detach().clone() for name, p in tiny_policy(family).module.named_parameters()}
    trainer(cut).run()
    for folder in list_checkpoints(cut / "checkpoints")[1:]:  # as if killed after the first checkpoint
        (folder / "state.json").unlink()
    trainer(cut).run(resume=True)

    ours, theirs = (load_checkpoint(list_checkpoints(p / "checkpoints")[-1]) for p in (cut, full))
    assert ours.step == theirs.step == 3
    for group in theirs.tensors:
        for name, tensor in theirs.tensors[group].items():
            assert torch.equal(ours.tensors[group][name], tensor), (group, name)
    rewards = [[row["reward"] for row in MetricsLog(p / "metrics.jsonl").rows()] for p in (cut, full)]
    assert rewards[0] == rewards[1]

    final = load_policy(cut / "final", device="cpu", dtype="float32").module
    changed = [name for name, p in final.named_parameters() if not torch.equal(p, before[name])]
    assert any("layers.1.mlp" in name for name in changed)
    assert not any("vision_model" in name or "vqmodel" in name for name in changed)
