import math

import pytest
import torch

from pairuni.pairgrpo.advantages import (
    combined_advantages,
    group_advantages,
    pair_weight,
    weighted_sum,
    zero_variance_groups,
)
from reference.pairgrpo_equations import advantage, weight


def test_group_advantages_match_the_equation() -> None:
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.2, 0.3, 0.9, -4.0]], dtype=torch.float64)
    expected = [[advantage(group, k, 1e-4) for k in range(4)] for group in rewards.tolist()]
    torch.testing.assert_close(group_advantages(rewards, 1e-4), torch.tensor(expected, dtype=torch.float64))


def test_group_of_two_by_hand() -> None:
    # mean 1/2, sample std sqrt(1/2): advantages are +-1/sqrt(2)
    advantages = group_advantages(torch.tensor([[0.0, 1.0]], dtype=torch.float64), 0.0)
    assert advantages[0].tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])


@pytest.mark.parametrize("guard", [0.0, 1e-4])
def test_zero_variance_groups_are_exactly_zero(guard: float) -> None:
    rewards = torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]], dtype=torch.float64)
    assert rewards[0].mean() != 0.1  # rounding leaves a difference that must not count
    advantages = group_advantages(rewards, guard)
    assert advantages[0].tolist() == [0.0, 0.0, 0.0]
    assert advantages[1].abs().min() > 0.1
    assert zero_variance_groups(rewards).tolist() == [True, False]


@pytest.mark.parametrize("scale", [1.0, -1.0, 1e-6, 21.7, -1e4, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rewards_that_differ_by_rounding_are_equal(scale: float, dtype: torch.dtype) -> None:
    value = torch.tensor(scale, dtype=torch.float32)
    above = torch.nextafter(value, value * 2)
    rewards = torch.stack([torch.stack([value, above, value]), torch.stack([value, value * 1.001, value])])
    rewards = rewards.to(dtype)
    assert rewards[0, 0] != rewards[0, 1]
    assert zero_variance_groups(rewards).tolist() == [True, False]
    advantages = group_advantages(rewards, 0.0)
    assert advantages[0].tolist() == [0.0, 0.0, 0.0]
    assert advantages[1].abs().max() > 1.0


def test_sums_that_differ_by_rounding_are_equal() -> None:
    rewards = torch.tensor([[0.1 + 0.2, 0.3, 0.3], [0.0, 0.0, 0.0], [0.0, 0.0, 1e-9]], dtype=torch.float64)
    assert zero_variance_groups(rewards).tolist() == [True, True, False]


def test_a_group_needs_two_rollouts() -> None:
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        group_advantages(torch.zeros(3, 1))


@pytest.mark.parametrize("mode", ["sqrt", "linear", "none"])
def test_pair_weight(mode: str) -> None:
    similarity = torch.tensor([1.0, 0.64, 0.25], dtype=torch.float64)
    expected = [weight(1.0, True, mode), weight(0.64, False, mode), weight(0.25, False, mode)]
    assert pair_weight(similarity, mode).tolist() == pytest.approx(expected)  # type: ignore[arg-type]


def test_unknown_pair_weight_is_named() -> None:
    with pytest.raises(ValueError, match="'cubic'"):
        pair_weight(torch.ones(1), "cubic")  # type: ignore[arg-type]


TERMS = [
    [[0.0, 1.0, 1.0], [0.2, 0.3, 0.9]],
    [[30.0, 10.0, 20.0], [5.0, 5.0, 5.0]],
]
WEIGHTS = [1.0, -0.25]


def test_weighted_terms_normalised_after_or_before_summing() -> None:
    terms = torch.tensor(TERMS, dtype=torch.float64)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    added, averaged = [], []
    for group in range(2):
        totals = [sum(w * term[group][k] for w, term in zip(WEIGHTS, TERMS, strict=True)) for k in range(3)]
        added.append([advantage(totals, k, 1e-4) for k in range(3)])
        averaged.append(
            [
                sum(w * advantage(term[group], k, 1e-4) for w, term in zip(WEIGHTS, TERMS, strict=True))
                / 1.25
                for k in range(3)
            ]
        )
        assert weighted_sum(terms, weights)[group].tolist() == pytest.approx(totals)
    torch.testing.assert_close(
        combined_advantages(terms, weights, "sum"), torch.tensor(added, dtype=torch.float64)
    )
    torch.testing.assert_close(
        combined_advantages(terms, weights, "each"), torch.tensor(averaged, dtype=torch.float64)
    )


def test_scale_of_a_term_is_irrelevant_if_each_is_normalised() -> None:
    terms = torch.rand(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 0.5], dtype=torch.float64)
    scaled = terms * torch.tensor([1.0, 1000.0], dtype=torch.float64)[:, None, None]
    each = [combined_advantages(one, weights, "each", 0.0) for one in (terms, scaled)]
    torch.testing.assert_close(*each)
    summed = [combined_advantages(one, weights, "sum", 0.0) for one in (terms, scaled)]
    assert not torch.allclose(*summed, atol=0.1)


@pytest.mark.parametrize("normalise", ["sum", "each"])
def test_a_single_reward_gives_group_advantages(normalise: str) -> None:
    rewards = torch.tensor(TERMS[0], dtype=torch.float64)
    alone = combined_advantages(rewards[None], torch.ones(1, dtype=torch.float64), normalise)  # type: ignore[arg-type]
    assert torch.equal(alone, group_advantages(rewards))
