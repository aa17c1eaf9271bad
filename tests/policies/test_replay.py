"""Teacher forcing in one packed forward, compared with ``transformers``' forward of every full sequence."""

import pytest
import torch
from torch.profiler import profile
from transformers import LlamaModel

from pairuni.policies.decoding.truncation import pack
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.replay import LOGITS_BUDGET, Continuation, linear_log_probs, packed_states
from tiny_models import tiny_llama

SHAPES = [(7, [5, 3, 5]), (4, [6]), (7, [5, 1, 2]), (3, [0, 0]), (5, [0, 4]), (9, [1])]
"""Prompt lengths, and what each of their continuations adds."""


def random_groups() -> list[Continuation]:
    draw = torch.Generator().manual_seed(1)

    def rows(count: int) -> torch.Tensor:
        return torch.randn(count, 32, generator=draw).requires_grad_()

    return [Continuation(prompt=rows(p), continuations=[rows(c) for c in counts]) for p, counts in SHAPES]


def leaves(model: LlamaModel, groups: list[Continuation]) -> list[torch.Tensor]:
    rows = [row for group in groups for row in (group.prompt, *group.continuations) if len(row)]
    return [*rows, *(weight for name, weight in model.named_parameters() if "embed" not in name)]


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_states_and_gradients_are_those_of_whole_sequences(kv_heads, checkpointing):
    model, groups = tiny_llama(kv_heads), random_groups()
    packed = packed_states(LlamaLayers(model), groups, checkpointing=checkpointing)
    plain = [
        [
            model(inputs_embeds=torch.cat([group.prompt, one])[None]).last_hidden_state[
                0, len(group.prompt) - 1 :
            ]
            for one in group.continuations
        ]
        for group in groups
    ]
    for states, expected in zip(packed, plain, strict=True):
        for one, two in zip(states, expected, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    probe = torch.linspace(-1, 1, 32)
    ours = torch.autograd.grad(
        sum((state @ probe).sum() for states in packed for state in states), leaves(model, groups)
    )
    theirs = torch.autograd.grad(
        sum((state @ probe).sum() for states in plain for state in states), leaves(model, groups)
    )
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_a_shared_prompt_passes_the_layers_once():
    model, groups = tiny_llama(4), random_groups()
    seen = []
    hook = model.layers[0].mlp.up_proj.register_forward_hook(
        lambda _, args, __: seen.append(args[0].shape[0])
    )
    packed_states(LlamaLayers(model), groups)
    hook.remove()
    assert seen == [sum(prompt + sum(counts) for prompt, counts in SHAPES)]


def test_checkpointing_keeps_less(monkeypatch):
    def kept(checkpointing: bool) -> int:
        model, groups = tiny_llama(4), random_groups()
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            packed_states(LlamaLayers(model), groups, checkpointing=checkpointing)
        return sum(sizes)

    assert kept(True) < kept(False) / 3


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_log_probs_of_a_linear_head_in_chunks(monkeypatch, chunk, bias):
    monkeypatch.setitem(LOGITS_BUDGET, "cpu", 4 * 50 * chunk)
    torch.manual_seed(0)
    features, head = torch.randn(7, 6).requires_grad_(), torch.nn.Linear(6, 50, bias=bias)
    tokens, temperature = torch.randint(50, (7,)), torch.rand(7) + 0.5
    leaves = (features, *head.parameters())
    ours = linear_log_probs(features, head, tokens, temperature)
    expected = torch.log_softmax(head(features) / temperature[:, None], dim=-1).gather(1, tokens[:, None])
    torch.testing.assert_close(ours, expected[:, 0])
    mine = torch.autograd.grad(ours @ torch.arange(7.0), leaves)
    theirs = torch.autograd.grad(expected[:, 0] @ torch.arange(7.0), leaves)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_log_probs_over_the_kept_tokens_alone(monkeypatch, chunk):
    monkeypatch.setitem(LOGITS_BUDGET, "cpu", 4 * 51 * chunk)
    torch.manual_seed(0)
    features, head = torch.randn(7, 6).requires_grad_(), torch.nn.Linear(6, 51)
    tokens, temperature = torch.randint(51, (7,)), torch.rand(7) + 0.5
    kept = torch.rand(7, 51) < 0.2
    kept[torch.arange(7), tokens] = True
    kept[3] = False
    kept[3, tokens[3]] = True
    leaves = (features, *head.parameters())
    ours = linear_log_probs(features, head, tokens, temperature, pack(kept))
    logits = head(features) / temperature[:, None]
    sums = [sum(logits[row, token].exp() for token in range(51) if kept[row, token]) for row in range(7)]
    expected = logits.gather(1, tokens[:, None])[:, 0] - torch.stack(sums).log()
    torch.testing.assert_close(ours, expected)
    assert float(ours[3].detach()) == 0.0
    mine = torch.autograd.grad(ours @ torch.arange(7.0), leaves)
    theirs = torch.autograd.grad(expected @ torch.arange(7.0), leaves)
    torch.testing.assert_close(mine, theirs)


def test_a_frozen_head_gets_no_gradient_and_low_precision_sums_in_full():
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 50).bfloat16()
    features = torch.randn(300, 6, dtype=torch.bfloat16).requires_grad_()
    tokens, temperature = torch.randint(50, (300,)), torch.ones(300)
    linear_log_probs(features, head.requires_grad_(False), tokens, temperature).sum().backward()
    assert head.weight.grad is None
    exact = torch.nn.Linear(6, 50)
    exact.load_state_dict(head.state_dict())
    wide = features.detach().float().requires_grad_()
    torch.log_softmax(exact(wide), dim=-1).gather(1, tokens[:, None]).sum().backward()
    torch.testing.assert_close(features.grad.float(), wide.grad, atol=0.02, rtol=0.02)
    linear_log_probs(features, head.requires_grad_(True), tokens, temperature).sum().backward()
    torch.testing.assert_close(head.weight.grad.float(), exact.weight.grad, atol=0.05, rtol=0.02)


def test_logits_are_never_held_whole(monkeypatch):
    """A large vocabulary costs one chunk of logits, forward and backward."""
    monkeypatch.setitem(LOGITS_BUDGET, "cpu", 8 << 20)
    features = torch.randn(400, 4).requires_grad_()
    head = torch.nn.Linear(4, 100_000).requires_grad_(False)
    whole = 4 * len(features) * head.out_features
    with profile(profile_memory=True) as trace:
        linear_log_probs(features, head, torch.zeros(400, dtype=torch.long), torch.ones(400)).sum().backward()
    held = peak = 0
    for event in trace.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < whole / 3
