import math

import pytest
import torch

from pairuni.pairgrpo.objective import (
    MAX_LOG_RATIO,
    LossTerms,
    clipped_surrogate,
    clipped_tokens,
    importance_ratio,
    k3_kl,
    pairgrpo_loss,
    trajectory_coefficients,
    weighted_token_sum,
)

MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def test_clip_is_asymmetric_and_one_sided() -> None:
    ratio = torch.tensor([[0.5, 1.0, 1.25, 2.0]], dtype=torch.float64, requires_grad=True)
    gain = clipped_surrogate(ratio, torch.tensor([2.0], dtype=torch.float64), 0.1, 0.3)
    assert gain[0].tolist() == pytest.approx([1.0, 2.0, 2.5, 2.6])  # capped above at 1.3, never below
    gain.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad[0].tolist() == pytest.approx([2.0, 2.0, 2.0, 0.0])
    loss = clipped_surrogate(ratio, torch.tensor([-2.0], dtype=torch.float64), 0.1, 0.3)
    assert loss[0].tolist() == pytest.approx([-1.8, -2.0, -2.5, -4.0])  # capped below at 0.9, never above


def test_clipped_tokens_lose_their_gradient() -> None:
    ratio = torch.tensor([[0.5, 0.85, 1.4], [0.5, 9.0, 9.0]])
    low, high = clipped_tokens(ratio, torch.tensor([-1.0, 1.0]), MASK, 0.2, 0.3)
    assert (int(low), int(high)) == (1, 0)
    low, high = clipped_tokens(ratio, torch.tensor([1.0, -1.0]), MASK, 0.2, 0.3)
    assert (int(low), int(high)) == (1, 1)


def test_k3_is_zero_at_equality_and_positive_elsewhere() -> None:
    log_probs = torch.tensor([[-1.0, -2.0]], dtype=torch.float64)
    assert k3_kl(log_probs, log_probs).tolist() == [[0.0, 0.0]]
    assert k3_kl(log_probs, log_probs + 0.5)[0].tolist() == pytest.approx([0.1487212707, 0.1487212707])
    assert (k3_kl(log_probs, log_probs - 0.5) > 0).all()


def test_k3_estimates_the_divergence() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    exact = (p * (p / q).log()).sum()
    assert float((p * k3_kl(p.log(), q.log())).sum()) == pytest.approx(float(exact))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("sequence-mean", (2.0 + 10.0) / 2), ("token-mean", 16.0 / 4), ("sequence-sum", 16.0 / 2)],
)
def test_reductions_by_hand(mode: str, expected: float) -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
    coefficients = trajectory_coefficients(MASK.sum(dim=-1), mode)  # type: ignore[arg-type]
    assert float(weighted_token_sum(values, MASK, coefficients)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("sequence-mean", 10.0 / 2), ("token-mean", 10.0 / 1), ("sequence-sum", 10.0 / 2)],
)
def test_reductions_with_a_masked_trajectory_by_hand(mode: str, expected: float) -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
    masked = torch.tensor([True, False])
    coefficients = trajectory_coefficients(MASK.sum(dim=-1), mode, masked)  # type: ignore[arg-type]
    assert float(weighted_token_sum(values, MASK, coefficients)) == pytest.approx(expected)
    assert coefficients[0] == 0.0
    none_left = trajectory_coefficients(MASK.sum(dim=-1), mode, torch.tensor([True, True]))  # type: ignore[arg-type]
    assert none_left.tolist() == [0.0, 0.0]


def test_unknown_reduction_is_named() -> None:
    with pytest.raises(ValueError, match="'mode'"):
        trajectory_coefficients(torch.tensor([1, 2]), "mode")  # type: ignore[arg-type]


def test_padding_never_reaches_loss_or_gradient() -> None:
    log_probs = torch.tensor([[-1.0, -2.0, -1.5], [-0.5, 80.0, -1e30]], requires_grad=True)
    terms = LossTerms(
        log_probs=log_probs,
        old_log_probs=torch.tensor([[-1.0, -2.0, -1.5], [-0.6, -90.0, 0.0]]),
        mask=MASK,
        advantages=torch.tensor([1.0, -1.0]),
        coefficients=trajectory_coefficients(MASK.sum(-1), "sequence-mean"),
        reference_log_probs=torch.tensor([[-1.0, -2.1, -1.5], [-0.6, 200.0, 0.0]]),
    )
    assert importance_ratio(terms.log_probs, terms.old_log_probs, MASK)[1, 1:].tolist() == [1.0, 1.0]
    loss = pairgrpo_loss(terms, clip_low=0.2, clip_high=0.2, beta=0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert log_probs.grad is not None
    assert log_probs.grad[1, 1:].tolist() == [0.0, 0.0]
    assert log_probs.grad[1, 0] != 0.0


def one_token(
    new: float, old: float, reference: float, advantage: float, beta: float
) -> tuple[float, list[float]]:
    """Loss, and its gradient by the two tokens' log-probs; the second token is an ordinary one."""
    log_probs = torch.tensor([[new, -1.0]], requires_grad=True)
    terms = LossTerms(
        log_probs=log_probs,
        old_log_probs=torch.tensor([[old, -1.0]]),
        mask=torch.ones(1, 2),
        advantages=torch.tensor([advantage]),
        coefficients=torch.tensor([0.5]),
        reference_log_probs=torch.tensor([[reference, -1.0]]),
    )
    loss = pairgrpo_loss(terms, clip_low=0.2, clip_high=0.2, beta=beta)
    loss.backward()
    assert log_probs.grad is not None
    return float(loss.detach()), log_probs.grad[0].tolist()


@pytest.mark.parametrize("far", [-22.0, -88.0, -90.0, -1e4, -1e30, -3e38])
def test_extreme_log_ratios_leave_loss_and_gradient_finite(far: float) -> None:
    loss, gradient = one_token(-1.0, far, -1.0, 1.0, 0.0)  # ratio beyond the upper clip
    assert loss == pytest.approx(-0.5 * (1.2 + 1.0))
    assert gradient == [0.0, -0.5]
    loss, gradient = one_token(-1.0, far, -1.0, -1.0, 0.0)  # the side that the clip leaves free
    assert math.isfinite(loss)
    assert gradient == [0.0, 0.5]
    loss, gradient = one_token(far, -1.0, -1.0, 1.0, 0.0)  # ratio near zero
    assert loss == pytest.approx(-0.5)
    assert gradient == pytest.approx([0.0, -0.5], abs=1e-8)
    for new, reference in ((far, -1.0), (-1.0, far)):
        loss, gradient = one_token(new, new, reference, 1.0, 0.01)
        assert math.isfinite(loss)
        assert all(map(math.isfinite, gradient))
        assert gradient[1] == -0.5


@pytest.mark.parametrize("distance", [0.0, 0.1, 3.0, 19.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ordinary_log_ratios_follow_the_equation(distance: float, sign: float) -> None:
    difference = torch.tensor([[sign * distance]], dtype=torch.float64)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    ratio = importance_ratio(difference, zero, torch.ones(1, 1))
    assert float(ratio) == math.exp(sign * distance)
    assert float(k3_kl(zero, difference)) == math.exp(sign * distance) - sign * distance - 1.0


def test_the_square_of_the_largest_ratio_fits_in_float32() -> None:
    log_probs = torch.zeros(1, 1, requires_grad=True)
    ratio = importance_ratio(log_probs + MAX_LOG_RATIO, torch.zeros(1, 1), torch.ones(1, 1))
    assert torch.isfinite(ratio.square()).all()
