"""Training steps and a run on a tiny random Janus model."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageStat
from transformers import JanusForConditionalGeneration

from pair_batches import grpo, make_pairs, run_settings
from pairuni.config import RolloutSettings
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import update
from pairuni.pairgrpo.trainer import Trainer
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.records import TASKS, Annotation
from pairuni.runs.metrics import MetricsLog
from pairuni.training.checkpoint import list_checkpoints, load_checkpoint
from pairuni.training.optimizer import NamedAdamW
from tiny_models import tiny_janus

PARTS = ["language_model", "generation_head"]
ROLLOUT = RolloutSettings(understanding=3, generation=2, guidance=3.0, max_new_tokens=5)


class Letters:
    name = "letters"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[str]) -> list[float]:
        return [sum(ord(letter) % 7 for letter in sample) / 10 for sample in samples]


class Brightness:
    name = "brightness"

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        return [ImageStat.Stat(image.convert("L")).mean[0] / 255 for image in samples]


REWARDS = Rewards(understanding=Letters(), generation=Brightness())


def janus() -> JanusPolicy:
    model, processor = tiny_janus()
    return JanusPolicy(model, processor)


def test_ratio_and_micro_batches(tmp_path: Path) -> None:
    policy = janus()
    parameters = policy.train_only(PARTS)
    pairs = make_pairs(tmp_path, (1.0, 0.81, 0.64))
    batch = rollout_batch(policy, pairs, ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    gradients = {}
    for size in (None, 60):
        policy.module.zero_grad()
        for part in micro_batches(policy, batch, grpo(micro_batch_tokens=size), TASKS):
            part.loss(policy, grpo()).backward()
            again = policy.log_probs(part.trajectories).values
            assert part.old_log_probs is not None
            assert torch.equal(again, part.old_log_probs)
        gradients[size] = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for _, p in parameters]
    for full, cut in zip(gradients[None], gradients[60], strict=True):
        torch.testing.assert_close(cut, full, rtol=1e-4, atol=1e-6 + 1e-4 * float(full.abs().max()))
    assert sum(float(gradient.abs().sum()) for gradient in gradients[60]) > 0.1

    optimizer = NamedAdamW(parameters, learning_rate=1e-3)
    metrics = update(
        policy,
        batch,
        optimizer,
        grpo(micro_batch_tokens=100, updates_per_step=2),
        step=1,
        learning_rate=1e-3,
    )
    for task in TASKS:
        assert metrics[f"{task}/sampling/sampling_logp_difference/max"] < 1e-4
        assert metrics[f"{task}/reward_std"] > 0
    assert metrics["grad_norm"] > 0


@pytest.mark.parametrize(
    "options", [{}, {"beta": 0.05, "updates_per_step": 2, "micro_batch_tokens": 60}], ids=str
)
def test_resumed_equals_uninterrupted(tmp_path: Path, options: dict[str, float]) -> None:
    grpo_section = {"steps": 3, "pairs_per_batch": 2, "learning_rate": 1e-3} | options
    settings = run_settings(
        pairgrpo=grpo_section,
        rollout=ROLLOUT.model_dump(),
        checkpoint={"every": 1, "keep": 3},
        logging={"samples_every": 2},
    )
    pairs = make_pairs(tmp_path)

    def trainer(out: Path) -> Trainer:
        return Trainer(settings, janus(), pairs, REWARDS, out, image_folder=tmp_path)

    full, cut = tmp_path / "full", tmp_path / "cut"
    trainer(full).run()
    before = {name: p.detach().clone() for name, p in janus().module.named_parameters()}
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

    final = JanusForConditionalGeneration.from_pretrained(cut / "final")
    changed = [name for name, p in final.named_parameters() if not torch.equal(p, before[name])]
    assert any(name.startswith("model.language_model") for name in changed)
    assert not any("vision_model" in name or "vqmodel" in name for name in changed)
