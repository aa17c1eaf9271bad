"""Training on questions with one, two and three images, and what is refused before the first step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from literal_loss import literal_loss
from PIL import Image

from commands import call, fails
from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, grpo, run_settings
from pairuni.config import RolloutSettings
from pairuni.pairgrpo.held_out import HeldOutPairs
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.preflight import UnusablePairs, check_pairs
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.trainer import Trainer
from pairuni.pairug.dataset.conversion import convert_pairs
from pairuni.policies.requests import TextSampling
from pairuni.records import TASKS, Annotation, UGPair
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from tiny_families import tiny_policy
from user_folder import Brightness, Letters, UserFolder, write_lines

LETTERS = Rewards(understanding=Letters(), generation=Brightness())


def mixed_pairs(folder: Path, prompts: int = 3) -> list[UGPair]:
    for number in range(4):
        Image.new("RGB", (20, 12), (60 * number, 30, 200 - 40 * number)).save(folder / f"{number}.png")

    def pair(*numbers: int) -> UGPair:
        return UGPair(
            similarity=0.7,
            generate_ann=Annotation(image_path="0.png", prompt=f"a {numbers[0]}", question="q", answer="a"),
            understand_ann=Annotation(
                image_paths=[f"{number}.png" for number in numbers],
                prompt="p",
                question=f"which of {len(numbers)}?",
                answer="A",
            ),
        )

    return [pair(0), pair(1, 2), pair(2, 3, 2)][:prompts]


def test_the_gradient_of_a_mixed_batch_matches_the_equations(tmp_path: Path) -> None:
    policy = tiny_policy("janus", torch.float64)
    pairs = mixed_pairs(tmp_path)
    rollout = RolloutSettings(understanding=3, generation=2, guidance=3.0, max_new_tokens=5)
    batch = rollout_batch(policy, pairs, rollout, LETTERS, seed=1, image_folder=tmp_path)
    lengths = [len(one.pixel_values) for one in batch.task("understanding").trajectories]
    assert lengths == [1] * 3 + [2] * 3 + [3] * 3
    old = tiny_policy("janus", torch.float64)
    trained = dict(policy.train_only(["language_model", "aligner", "vision_model", "generation_head"]))
    found = []
    for tokens in (None, 90):
        policy.module.zero_grad()
        chosen = grpo(micro_batch_tokens=tokens)
        for part in micro_batches(policy, batch, chosen, TASKS):
            with torch.no_grad():
                part.old_log_probs = old.log_probs(part.trajectories).values
            part.loss(policy, chosen).backward()
        found.append({name: one.grad.clone() for name, one in trained.items() if one.grad is not None})
    policy.module.zero_grad()
    literal_loss(policy, batch, grpo(), old, old).backward()
    expected = {name: one.grad for name, one in trained.items() if one.grad is not None}
    largest = max(float(one.abs().max()) for one in expected.values())
    for gradients in found:
        assert any("vision_model" in name for name in gradients)
        for name, gradient in expected.items():
            ours = gradients.get(name, torch.zeros_like(gradient))
            torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-5 * largest)


def user_of_mixed(root: Path) -> UserFolder:
    user = UserFolder(root)
    pairs = mixed_pairs(user.pairs.parent)
    write_lines(user.pairs, [pair.model_dump() for pair in pairs])
    return user


def test_a_run_on_mixed_pairs_resumes_and_reports(tmp_path: Path) -> None:
    user = user_of_mixed(tmp_path / "user")
    options = (
        "--reward.understanding",
        "user_folder:Letters",
        "--pairgrpo.pairs-per-batch",
        "3",
        "--logging.samples-every",
        "1",
    )
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    code, said, errors = call("train", user.recipe, "--dry-run", *options)
    assert code == 0, errors
    assert "images a question   at most 3" in said
    code, _, errors = call("train", user.recipe, "--out", whole, *options)
    assert code == 0, errors
    # a second file of the same pairs, as parquet, trains the same
    convert_pairs(user.pairs, user.pairs.with_suffix(".parquet"))
    parquet = ("--data.pairs", user.pairs.with_suffix(".parquet"))
    code, _, errors = call("train", user.recipe, "--out", halved, *options, *parquet, "--pairgrpo.steps", 1)
    assert code == 0, errors
    code, _, errors = call("train", user.recipe, "--out", halved, *options, *parquet, "--resume")
    assert code == 0, errors
    first, second = (MetricsLog(run / "metrics.jsonl").rows() for run in (whole, halved))
    assert [row["loss"] for row in first] == [row["loss"] for row in second]
    rows = [json.loads(line) for line in RunFolder(whole).samples_log.read_text().splitlines()]
    assert {len(row.get("image_paths", [row.get("image_path")])) for row in rows} == {1, 2, 3}
    report = (whole / "report.html").read_text()
    assert report.count('<span class="several">') == 2
    assert "(image 3 of 3)" in report


def test_faults_are_found_before_training_and_located(tmp_path: Path) -> None:
    user = user_of_mixed(tmp_path / "user")
    out = ("--out", tmp_path / "run")
    assert f"{user.pairs}, line 3, field understand_ann.question: 'which of 3?' needs " in (
        said := fails("train", user.recipe, *out, "--rollout.max-new-tokens", "450")
    )
    assert "with its 3 images and 450 new tokens" in said
    (user.pairs.parent / "3.png").unlink()
    assert f"{user.pairs}, line 3, field understand_ann.image_paths: '3.png' is missing" in fails(
        "train", user.recipe, *out
    )
    rows = [json.loads(line) for line in user.pairs.read_text().splitlines()]
    rows[1]["understand_ann"]["image_paths"] = []
    write_lines(user.pairs, rows)
    assert "line 2, field understand_ann.image_paths: must name at least one image" in fails(
        "train", user.recipe, *out
    )
    assert not (tmp_path / "run").exists()


def test_a_policy_of_one_image_refuses_the_pairs_at_the_start(tmp_path: Path) -> None:
    pairs = mixed_pairs(tmp_path)
    with pytest.raises(UnusablePairs) as error:
        check_pairs(FakePolicy(), pairs, ROLLOUT, tmp_path)
    assert [str(one) for one in error.value.faults] == [
        f"pair {count}, field understand_ann.question: 'which of {count}?' shows {count} images, but the policy "
        "fake takes one a question"
        for count in (2, 3)
    ]
    check_pairs(FakePolicy(), pairs[:1], ROLLOUT, tmp_path)


class SeesSeveral(FakePolicy):
    """Keeps the number of images of the questions that it answered."""

    several_images = True

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[int] = []

    def sample_text(self, request: TextSampling) -> Any:
        self.shown += [len(images) for images in request.shown]
        first = [images[0] for images in request.shown]
        return super().sample_text(replace(request, images=first, temperature=request.temperature or 1e-3))


def test_held_out_questions_show_their_images_side_by_side(tmp_path: Path) -> None:
    pairs, run = mixed_pairs(tmp_path), RunFolder(tmp_path / "run")
    policy = SeesSeveral()
    evaluate = HeldOutPairs(
        pairs=pairs,
        image_folder=tmp_path,
        rewards=REWARDS,
        rollout=ROLLOUT,
        pairs_per_batch=1,
        seed=3,
        run=run,
    )
    trainer = Trainer(
        run_settings(evaluation={"every": 6}),
        policy,
        pairs,
        REWARDS,
        run.root,
        image_folder=tmp_path,
        evaluate=evaluate,
    )
    trainer.run()
    assert set(policy.shown) == {1, 2, 3}
    sizes = [Image.open(run.evaluation / "asked" / f"{number:03d}.png").size for number in range(3)]
    assert sizes == [(20, 12), (40, 12), (60, 12)]
