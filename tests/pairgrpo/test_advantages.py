import math

import pytest
import torch

from pairuni.pairgrpo.advantages import group_advantages, groups_without_spread, pair_weight
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
def test_groups_without_spread_are_exactly_zero(guard: float) -> None:
    rewards = torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]], dtype=torch.float64)
    assert rewards[0].mean() != 0.1  # rounding leaves a difference that must not count
    advantages = group_advantages(rewards, guard)
    assert advantages[0].tolist() == [0.0, 0.0, 0.0]
    assert advantages[1].abs().min() > 0.1
    assert groups_without_spread(rewards).tolist() == [True, False]


def test_one_rollout_is_no_group() -> None:
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
