import pytest
import torch
from torch import nn

from pairuni.training.optimizer import NamedAdamW


def parameters(dtype: torch.dtype) -> list[tuple[str, nn.Parameter]]:
    torch.manual_seed(0)
    return [("w", nn.Parameter(torch.randn(3, 4).to(dtype))), ("b", nn.Parameter(torch.ones(4).to(dtype)))]


def train(optimizer: NamedAdamW, steps: int, learning_rate: float = 1e-3, chunks: int = 1) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(chunks):
            total = sum((p.float().square().sum() for p in optimizer.parameters.values()), torch.zeros(()))
            (total / chunks).backward()
            optimizer.collect_gradients()
        optimizer.step(learning_rate)


def test_small_updates_of_bfloat16_weights_add_up() -> None:
    named = parameters(torch.bfloat16)
    optimizer = NamedAdamW(named, learning_rate=1e-6)
    before = named[1][1].detach().clone()
    train(optimizer, 10, learning_rate=1e-6)
    assert torch.equal(named[1][1], before)  # ten steps of 1e-6 are below bfloat16's resolution at 1
    assert optimizer.weights()["b"][0] == pytest.approx(1 - 1e-5, abs=1e-6)
    train(optimizer, 10, learning_rate=1e-3)
    assert (named[1][1] < before).all()
    assert named[1][1].dtype == torch.bfloat16


def test_float32_matches_plain_adamw() -> None:
    ours, theirs = parameters(torch.float32), parameters(torch.float32)
    optimizer = NamedAdamW(ours, learning_rate=1e-2, weight_decay=0.1)
    train(optimizer, 5, 1e-2)
    plain = torch.optim.AdamW(
        [{"params": [theirs[0][1]], "weight_decay": 0.1}, {"params": [theirs[1][1]], "weight_decay": 0.0}],
        lr=1e-2,
    )
    for _ in range(5):
        plain.zero_grad()
        sum((p.square().sum() for _, p in theirs), torch.zeros(())).backward()
        plain.step()
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_by_name_resumes_bit_for_bit(dtype: torch.dtype) -> None:
    whole = NamedAdamW(parameters(dtype), learning_rate=1e-2)
    train(whole, 6, 1e-2, chunks=3)
    first = NamedAdamW(parameters(dtype), learning_rate=1e-2)
    train(first, 4, 1e-2, chunks=3)
    weights = {name: value.clone() for name, value in first.weights().items()}
    state = {name: value.clone() for name, value in first.state().items()}
    assert set(state) == {f"{n}/{k}" for n in "wb" for k in ("step", "exp_avg", "exp_avg_sq")}
    second = NamedAdamW(parameters(dtype), learning_rate=1e-2)
    second.load(weights, state)
    train(second, 2, 1e-2, chunks=3)
    for name in "wb":
        assert torch.equal(second.weights()[name], whole.weights()[name])
        assert torch.equal(second.parameters[name], whole.parameters[name])


def test_weights_of_other_parameters_are_refused() -> None:
    optimizer = NamedAdamW(parameters(torch.float32), learning_rate=1.0)
    with pytest.raises(ValueError, match="other parameters than this run, first of them b"):
        optimizer.load({"w": torch.ones(3, 4), "other": torch.ones(4)}, {})
    with pytest.raises(ValueError, match=r"has w with shape \(4, 3\), the policy with \(3, 4\)"):
        optimizer.load({"w": torch.ones(4, 3), "b": torch.ones(4)}, {})


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter trains"):
        NamedAdamW([], learning_rate=1.0)
