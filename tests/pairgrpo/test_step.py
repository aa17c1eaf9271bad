import itertools
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from literal_loss import literal_loss
from torch import Tensor

from fake_policy import EOS, FakePolicy
from pair_batches import REWARDS, ROLLOUT, Constant, grpo, make_pairs
from pairuni.config import PairGRPOSettings
from pairuni.pairgrpo.batch import RolloutBatch
from pairuni.pairgrpo.micro_batches import micro_batches
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairgrpo.step import GradientError, update
from pairuni.policies.autoregressive import ImageTokens, TextTokens
from pairuni.policies.trajectories import TrajectoryLogProbs
from pairuni.records import TASKS
from pairuni.training.optimizer import NamedAdamW
from reference.pairgrpo_equations import literal_adamw

PARTS = ["language_model"]


def sampled(folder: Path, policy: FakePolicy, *, rewards: Rewards = REWARDS, **kwargs: Any) -> RolloutBatch:
    pairs = make_pairs(folder, kwargs.pop("similarities", (1.0, 0.81, 0.49)))
    rollout = kwargs.pop("rollout", ROLLOUT)
    return rollout_batch(policy, pairs, rollout, rewards, seed=11, image_folder=folder, **kwargs)


def gradient(
    policy: FakePolicy, batch: RolloutBatch, settings: PairGRPOSettings, reference: Any = None
) -> Any:
    policy.module.zero_grad()
    parts = micro_batches(policy, batch, settings, TASKS)
    for part in parts:
        if reference is not None:
            part.reference_log_probs = reference.log_probs(part.trajectories)
        part.loss(policy, settings).backward()
    return {name: p.grad.clone() for name, p in policy.module.named_parameters() if p.grad is not None}


def cut_off(trajectory: TextTokens | ImageTokens) -> bool:
    return isinstance(trajectory, TextTokens) and int(trajectory.tokens[-1]) != EOS


literal = partial(literal_loss, cut_off=cut_off)


def moved(policy: FakePolicy, amount: float, seed: int = 0) -> FakePolicy:
    """A copy with random noise added to the weights."""
    other = FakePolicy(next(policy.module.parameters()).dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for mine, theirs in zip(other.module.parameters(), policy.module.parameters(), strict=True):
            noise = torch.randn(theirs.shape, generator=generator, dtype=theirs.dtype)
            mine.copy_(theirs + amount * noise)
    return other


OPTIONS = [
    {"token_reduction": reduction, "pair_weight": mode, "beta": beta}
    for reduction, mode, beta in itertools.product(
        ["sequence-mean", "token-mean", "sequence-sum"], ["sqrt", "linear", "none"], [0.0, 0.3]
    )
] + [
    {"clip_low": 0.05, "clip_high": 0.4},
    {"clip_low": 0.4, "clip_high": 0.02},
    {"understanding_weight": 0.3, "generation_weight": 2.0},
    {"std_eps": 0.5},
    {"unified_reward": 0.8},
    {"unified_reward": 0.8, "pair_weight": "none", "std_eps": 0.5, "generation_weight": 0.4, "beta": 0.3},
    {"unified_reward": 0.0},
    *(
        {"truncated": "mask", "token_reduction": reduction, "beta": beta}
        for reduction, beta in itertools.product(["sequence-mean", "token-mean", "sequence-sum"], [0.0, 0.3])
    ),
    {"truncated": "mask", "unified_reward": 0.8},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_matches_the_equations(tmp_path: Path, options: dict[str, Any]) -> None:
    """Old, current and reference weights all differ, so that ratio, clipping and KL take effect."""
    settings = grpo(micro_batch_tokens=20, **options)
    old = FakePolicy(torch.float64)
    # a unified reward needs as many answers as images
    rollout = ROLLOUT if settings.unified_reward is None else ROLLOUT.model_copy(update={"understanding": 4})
    batch = sampled(
        tmp_path,
        old,
        rollout=rollout,
        pair_weight_mode=settings.pair_weight,
        std_eps=settings.std_eps,
        unified_reward=settings.unified_reward,
    )
    current, reference = moved(old, 0.15, seed=1), moved(old, 0.3, seed=2)
    answers = [cut_off(one) for one in batch.task("understanding").trajectories]
    assert {True, False} == set(answers)

    parts = micro_batches(current, batch, settings, TASKS)
    total = torch.zeros((), dtype=torch.float64)
    for part in parts:
        with torch.no_grad():
            part.old_log_probs = old.log_probs(part.trajectories).values
            part.reference_log_probs = reference.log_probs(part.trajectories).values
        loss = part.loss(current, settings)
        loss.backward()
        total += loss.detach()
    ours = {n: p.grad.clone() for n, p in current.module.named_parameters() if p.grad is not None}

    current.module.zero_grad()
    expected = literal(current, batch, settings, old, reference)
    expected.backward()
    torch.testing.assert_close(total, expected.detach(), rtol=1e-10, atol=1e-12)
    assert set(ours) == {"words", "cells", "shared"}
    for name, parameter in current.module.named_parameters():
        if name in ours:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"beta": 0.2}, {"clip_low": 0.01, "clip_high": 0.03}], ids=str)
def test_several_updates_follow_the_equations(tmp_path: Path, options: dict[str, Any]) -> None:
    settings = grpo(updates_per_step=3, micro_batch_tokens=30, **options)
    policy, old = FakePolicy(torch.float64), FakePolicy(torch.float64)
    literal_policy = FakePolicy(torch.float64)
    parameters = policy.train_only(PARTS)
    batch = sampled(tmp_path, policy)
    metrics = update(
        policy,
        batch,
        NamedAdamW(parameters, learning_rate=0.05),
        settings,
        step=1,
        learning_rate=0.05,
        reference=policy.reference() if settings.beta else None,
    )
    moments: dict[str, dict[str, Tensor]] = {name: {} for name, _ in parameters}
    trained = [(n, p) for n, p in literal_policy.module.named_parameters() if n in moments]
    for number in range(1, 4):
        literal_policy.module.zero_grad()
        literal(literal_policy, batch, settings, old, old).backward()
        with torch.no_grad():
            for name, parameter in trained:
                parameter.copy_(literal_adamw(parameter, parameter.grad, moments[name], number, 0.05))
    for (name, ours), (_, theirs) in zip(parameters, trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10, msg=name)
    if settings.clip_low == 0.01:
        assert metrics["clip_ratio/region_mean"] > 0.05


def test_masked_answers_are_not_replayed_and_their_rewards_count(tmp_path: Path) -> None:
    policy = FakePolicy(torch.float64)
    batch = sampled(tmp_path, policy)
    settings = grpo(truncated="mask", beta=0.1)
    replayed = [one for part in micro_batches(policy, batch, settings, TASKS) for one in part.trajectories]
    assert len(replayed) == 15 + 12 - sum(cut_off(one) for one in batch.task("understanding").trajectories)
    assert not any(cut_off(one) for one in replayed)
    kept, masked = (gradient(policy, batch, grpo(truncated=choice)) for choice in ("keep", "mask"))
    assert not torch.equal(kept["words"], masked["words"])
    assert torch.equal(kept["cells"], masked["cells"])


def test_a_step_of_masked_answers_alone_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy, rollout=ROLLOUT.model_copy(update={"max_new_tokens": 1}))
    answers = batch.task("understanding")
    every = [replace(one, finished=False) for one in answers.trajectories]
    batch = replace(batch, rollouts={"understanding": replace(answers, trajectories=every)})
    before = {name: value.clone() for name, value in policy.module.state_dict().items()}
    settings = grpo(truncated="mask", token_reduction="token-mean")
    with caplog.at_level(logging.WARNING, logger="pairuni"):
        metrics = update(
            policy,
            batch,
            NamedAdamW(policy.train_only(PARTS), learning_rate=0.05),
            settings,
            step=1,
            learning_rate=0.05,
        )
    assert metrics["understanding/completions/clipped_ratio"] == 1.0
    assert "the gradient is exactly zero" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in policy.module.state_dict().items())


def test_ratio_is_exactly_one_before_the_first_update(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    for part in micro_batches(policy, batch, grpo(micro_batch_tokens=20), TASKS):
        part.loss(policy, grpo())
        replay = policy.log_probs(part.trajectories).values
        assert part.old_log_probs is not None
        assert ((replay - part.old_log_probs).exp() == 1.0).all()


def test_one_forward_pass_per_micro_batch_and_update(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    policy.replays = 0
    update(policy, batch, optimizer, grpo(micro_batch_tokens=40), step=1, learning_rate=0.05)
    # old log-probs need no separate pass
    assert policy.replays == len(micro_batches(policy, batch, grpo(micro_batch_tokens=40), TASKS)) > 1


def test_micro_batches_skip_zero_advantages_and_respect_the_token_limit(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    nonzero = {
        id(trajectory)
        for task in TASKS
        for trajectory, advantage in zip(
            batch.task(task).trajectories, batch.weighted_advantages(task), strict=True
        )
        if advantage != 0
    }
    assert 0 < len(nonzero) < 15 + 12  # some advantages are zero, and those trajectories are not replayed
    full = micro_batches(policy, batch, grpo(), TASKS)
    assert [len(rows.advantages) for part in full for rows in part.tasks] == [
        sum(id(trajectory) in nonzero for trajectory in batch.task(task).trajectories) for task in TASKS
    ]
    for budget in (1, 30, 60, 200):
        parts = micro_batches(policy, batch, grpo(micro_batch_tokens=budget), TASKS)
        assert sorted(id(one) for part in parts for one in part.trajectories) == sorted(nonzero)
        for part in parts:
            assert policy.replay_cost(part.trajectories).tokens <= budget or len(part.trajectories) == 1
            assert sum(len(rows.advantages) for rows in part.tasks) == len(part.trajectories)


def test_replayed_tokens_count_shared_prompts_once() -> None:
    prompt, pixels = torch.arange(7), torch.zeros(3, 2, 2)
    text = TextTokens(
        tokens=torch.arange(4),
        log_probs=torch.zeros(4),
        prompt_ids=prompt,
        pixel_values=(pixels,),
        temperature=1.0,
        finished=True,
        text="",
    )
    image = ImageTokens(
        tokens=torch.arange(5),
        log_probs=torch.zeros(5),
        prompt_ids=prompt,
        temperature=1.0,
        guidance=3.0,
        branch="guided",
    )
    policy = FakePolicy()
    assert policy.replay_cost([text]).tokens == 7 + 3
    assert policy.replay_cost([text, text]).tokens == 7 + 2 * 3
    assert policy.replay_cost([text, replace(text, pixel_values=(pixels.clone(),))]).tokens == 2 * (7 + 3)
    assert policy.replay_cost([image, image]).tokens == 2 * (7 + 2 * 4)
    assert policy.replay_cost([replace(image, branch="conditional"), text]).tokens == 7 + 4 + 7 + 3


def test_all_similarities_one_is_plain_grpo(tmp_path: Path) -> None:
    policy = FakePolicy(torch.float64)
    ones = sampled(tmp_path, policy, similarities=(1.0, 1.0, 1.0), pair_weight_mode="sqrt")
    plain = sampled(tmp_path, policy, similarities=(1.0, 1.0, 1.0), pair_weight_mode="none")
    assert ones.weights.tolist() == [1.0, 1.0, 1.0]
    weighted, unweighted = gradient(policy, ones, grpo()), gradient(policy, plain, grpo(pair_weight="none"))
    for name in weighted:
        assert torch.equal(weighted[name], unweighted[name])
    retrieved = sampled(tmp_path, policy, similarities=(1.0, 0.25, 0.25))
    assert retrieved.weights.tolist() == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("reduction", ["sequence-mean", "token-mean", "sequence-sum"])
@pytest.mark.parametrize("size", [1, 12, 40, 70, 1000])
def test_micro_batches_do_not_change_the_gradient(tmp_path: Path, reduction: str, size: int | None) -> None:
    policy = FakePolicy(torch.float64)
    batch = sampled(tmp_path, policy)
    lengths = set(batch.task("understanding").numbers.decisions.tolist())
    assert len(lengths) > 2, "lengths differ, so a wrong normaliser shows"
    full = gradient(policy, batch, grpo(token_reduction=reduction))
    cut = gradient(policy, batch, grpo(token_reduction=reduction, micro_batch_tokens=size))
    for name in full:
        torch.testing.assert_close(cut[name], full[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["sequence-mean", "token-mean", "sequence-sum"])
def test_accumulated_batches_equal_their_union(tmp_path: Path, reduction: str) -> None:
    policy = FakePolicy(torch.float64)
    settings = grpo(token_reduction=reduction)
    pairs = make_pairs(tmp_path)

    def rollouts(chosen: Any, seed: int) -> RolloutBatch:
        return rollout_batch(policy, chosen, ROLLOUT, REWARDS, seed=seed, image_folder=tmp_path)

    first, second = rollouts(pairs[:2], 1), rollouts(pairs[2:4], 2)
    joined = RolloutBatch.join([first, second])
    expected = literal(policy, joined, settings, policy, policy)
    policy.module.zero_grad()
    expected.backward()
    literal_gradient = {n: p.grad.clone() for n, p in policy.module.named_parameters() if p.grad is not None}
    ours = gradient(policy, joined, settings)
    for name in ours:
        torch.testing.assert_close(ours[name], literal_gradient[name], rtol=1e-10, atol=1e-12)


def test_beta_reports_the_kl_and_pulls_back(tmp_path: Path) -> None:
    policy = FakePolicy(torch.float64)
    parameters = policy.train_only(PARTS)
    reference = policy.reference()
    before = {name: parameter.detach().clone() for name, parameter in parameters}
    with torch.no_grad():
        policy.module.shared += 0.5
    current = policy.module.shared.data.clone()
    batch = sampled(tmp_path, policy, rewards=Rewards(understanding=Constant(), generation=Constant()))
    at_start = FakePolicy(torch.float64)
    texts = batch.task("understanding").trajectories
    torch.testing.assert_close(reference.log_probs(texts), at_start.log_probs(texts).values.detach())
    assert torch.equal(policy.module.shared.data, current)  # the reference does not change the policy

    d = torch.cat(
        [at_start.log_probs([t]).values[0].detach() - policy.log_probs([t]).values[0].detach() for t in texts]
    )
    optimizer = NamedAdamW(parameters, learning_rate=1e-3)
    metrics = update(
        policy, batch, optimizer, grpo(beta=0.1), step=1, learning_rate=1e-3, reference=reference
    )
    assert metrics["understanding/kl"] == pytest.approx(float((d.exp() - d - 1).mean()))
    assert metrics["kl"] == pytest.approx((metrics["understanding/kl"] + metrics["generation/kl"]) / 2)
    assert (
        before["shared"] < policy.module.shared < current
    )  # rewards are constant: only the KL term moved it, towards 1


def test_metrics_of_a_unified_reward(tmp_path: Path) -> None:
    policy, rollout = FakePolicy(), ROLLOUT.model_copy(update={"understanding": 4})
    batch = sampled(tmp_path, policy, rollout=rollout, unified_reward=0.8)
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    metrics = update(policy, batch, optimizer, grpo(unified_reward=0.8), step=1, learning_rate=0.05)
    assert metrics["unified/reward"] == pytest.approx(
        metrics["generation/reward"] + 0.8 * metrics["understanding/reward"]
    )
    flat = [float(group.abs().max()) == 0 for group in batch.task("understanding").advantages]
    assert metrics["unified/frac_reward_zero_std"] == pytest.approx(sum(flat) / len(flat))


def test_metric_names_and_values(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    metrics = update(policy, batch, optimizer, grpo(), step=1, learning_rate=0.05)
    for name in ("reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "loss"):
        assert name in metrics or name == "loss"
        for task in TASKS:
            assert f"{task}/{name}" in metrics
    for task in TASKS:
        assert metrics[f"{task}/clip_ratio/region_mean"] == 0.0
        assert metrics[f"{task}/sampling/sampling_logp_difference/max"] < 1e-6
        assert metrics[f"{task}/reward"] == pytest.approx(float(batch.task(task).rewards.mean()))
    assert metrics["grad_norm"] > 0
    assert metrics["learning_rate"] == 0.05
    assert metrics["pair_weight"] == pytest.approx((1 + 0.9 + 0.7) / 3)
    assert metrics["generation/completions/mean_length"] == 4
    assert "generation/completions/clipped_ratio" not in metrics  # an image is never truncated
    cut_short = [not t.finished for t in batch.task("understanding").trajectories]  # type: ignore[union-attr]
    assert metrics["understanding/completions/clipped_ratio"] == pytest.approx(
        sum(cut_short) / len(cut_short)
    )


def test_sampling_and_replay_mismatch_is_logged(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    drifted = moved(policy, 0.1)
    optimizer = NamedAdamW(drifted.train_only(PARTS), learning_rate=0.05)
    metrics = update(drifted, batch, optimizer, grpo(micro_batch_tokens=30), step=1, learning_rate=0.05)
    replayed = [
        trajectory
        for trajectory, advantage in zip(
            batch.task("generation").trajectories, batch.weighted_advantages("generation"), strict=True
        )
        if advantage != 0
    ]
    rows = moved(policy, 0.1).log_probs(replayed).values.detach()
    differences = torch.cat([(t.log_probs - row).abs() for t, row in zip(replayed, rows, strict=True)])
    name = "generation/sampling/sampling_logp_difference"
    assert metrics[f"{name}/mean"] == pytest.approx(float(differences.mean()), rel=1e-4)
    assert metrics[f"{name}/max"] == pytest.approx(float(differences.max()), rel=1e-4)


def test_task_with_weight_zero_is_not_replayed(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    before = policy.module.cells.detach().clone()
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    policy.replays = 0
    metrics = update(policy, batch, optimizer, grpo(generation_weight=0.0), step=1, learning_rate=0.05)
    assert policy.replays == 1
    assert torch.equal(policy.module.cells, before)
    assert "generation/reward" in metrics


def test_parts_that_only_one_task_uses_may_train_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = FakePolicy(torch.float64)
    every = gradient(policy, sampled(tmp_path, policy), grpo())
    policy.module.requires_grad_(False)
    policy.module.cells.requires_grad_(True)
    batch = sampled(tmp_path, policy)
    before = policy.module.cells.detach().clone()
    optimizer = NamedAdamW([("cells", policy.module.cells)], learning_rate=0.05)
    # with so few tokens, every answer has a micro-batch of its own
    options = {"step": 1, "learning_rate": 0.05}
    metrics = update(policy, batch, optimizer, grpo(micro_batch_tokens=1), **options)
    assert metrics["grad_norm"] == pytest.approx(float(every["cells"].norm()))
    assert not torch.equal(policy.module.cells, before)

    after = policy.module.cells.detach().clone()
    answers = replace(batch, rollouts={"understanding": batch.task("understanding")})
    with caplog.at_level(logging.WARNING, logger="pairuni"):
        assert update(policy, answers, optimizer, grpo(), **options)["grad_norm"] == 0.0
    assert "the gradient is exactly zero" in caplog.text
    assert torch.equal(policy.module.cells, after)


def test_gradients_are_clipped_after_their_norm_is_logged(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    before = policy.module.words.detach().clone()
    metrics = update(policy, batch, optimizer, grpo(max_grad_norm=1e-12), step=1, learning_rate=0.05)
    assert metrics["grad_norm"] > 1e-3
    # AdamW cancels a common scale, except for its eps of 1e-8, which dominates a gradient of 1e-12
    assert 0 < float((policy.module.words.detach() - before).abs().max()) < 0.05 * 1e-3


def test_constant_rewards_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy, rewards=Rewards(understanding=Constant(), generation=Constant()))
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    with caplog.at_level(logging.WARNING, logger="pairuni"):
        metrics = update(policy, batch, optimizer, grpo(), step=7, learning_rate=0.05)
    messages = " | ".join(record.getMessage() for record in caplog.records)
    assert "step 7: every advantage is zero" in messages
    assert "step 7: the gradient is exactly zero" in messages
    assert metrics["frac_reward_zero_std"] == 1.0
    assert metrics["grad_norm"] == 0.0


def test_what_a_gradient_of_zero_still_changes_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = FakePolicy(torch.float64)
    parameters, reference = policy.train_only(PARTS), policy.reference()
    batch = sampled(tmp_path, policy, rewards=Rewards(understanding=Constant(), generation=Constant()))

    def said(**options: Any) -> str:
        caplog.clear()
        optimizer = NamedAdamW(parameters, learning_rate=0.05)
        settings = grpo(updates_per_step=3, **options)
        with caplog.at_level(logging.WARNING, logger="pairuni"):
            update(policy, batch, optimizer, settings, step=4, learning_rate=0.05, reference=reference)
        found = [one.getMessage() for one in caplog.records if "exactly zero" in one.getMessage()]
        assert len(found) <= 1
        return "".join(found)

    start = policy.module.shared.detach().clone()
    assert said() == "step 4: the gradient is exactly zero: this step does not change the weights"
    # the weights are the reference's, so the KL term has a gradient, of zero
    assert said(beta=0.1) == (
        "step 4: the gradient is exactly zero: only AdamW's momentum and weight decay change the weights"
    )
    assert torch.equal(policy.module.shared, start)
    # an answer of one token becomes more probable: after the first update, its ratio is clipped
    answers = batch.task("understanding")
    short = answers.numbers.decisions.tolist().index(1)
    answers.advantages.view(-1)[short] = 1.0
    assert said(clip_high=1e-12) == (
        "step 4: the gradient is exactly zero in 2 of 3 updates: "
        "only AdamW's momentum and weight decay change the weights"
    )


class ExplodingPolicy(FakePolicy):
    def log_probs(self, trajectories: Any) -> TrajectoryLogProbs:
        replay = super().log_probs(trajectories)
        factors = [float("inf") if t.modality == "image" else 1.0 for t in trajectories]
        return TrajectoryLogProbs(values=replay.values * torch.tensor(factors)[:, None], mask=replay.mask)


def test_non_finite_gradient_leaves_the_weights(tmp_path: Path) -> None:
    policy = ExplodingPolicy()
    batch = sampled(tmp_path, policy)
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    before = policy.module.words.detach().clone()
    with pytest.raises(GradientError, match=r"step 12: the gradient is not finite .* first in cells, shared"):
        update(policy, batch, optimizer, grpo(), step=12, learning_rate=0.05)
    assert torch.equal(policy.module.words, before)


def test_a_gradient_whose_norm_overflows_is_named(tmp_path: Path) -> None:
    policy = FakePolicy()
    batch = sampled(tmp_path, policy)
    optimizer = NamedAdamW(policy.train_only(PARTS), learning_rate=0.05)
    settings = grpo(understanding_weight=1e30)
    with pytest.raises(GradientError, match=r"step 1: the gradient is finite, but too large .*\(norm inf\)"):
        update(policy, batch, optimizer, settings, step=1, learning_rate=0.05)
