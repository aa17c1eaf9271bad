"""Teacher forcing in one packed forward against ``transformers``' own forward of every sequence whole."""

import pytest
import torch
from transformers import LlamaModel

from pairuni.policies.llama import LlamaLayers
from pairuni.policies.replay import Continuation, in_chunks, packed_states, token_log_probs
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
def test_chunks_change_neither_values_nor_gradients(chunk):
    torch.manual_seed(0)
    states, weight = torch.randn(7, 6).requires_grad_(), torch.randn(50, 6).requires_grad_()
    tokens, temperature = torch.randint(50, (7,)), torch.rand(7) + 0.5
    rows_at_once = []

    def scores(rows, ids, t):
        rows_at_once.append(len(rows))
        return token_log_probs(rows @ weight.T, ids, t)

    ours = in_chunks(scores, (states, tokens, temperature), chunk)
    expected = torch.log_softmax((states @ weight.T) / temperature[:, None], dim=-1).gather(
        1, tokens[:, None]
    )
    torch.testing.assert_close(ours, expected[:, 0])
    mine = torch.autograd.grad(ours @ torch.arange(7.0), (states, weight))
    theirs = torch.autograd.grad(expected[:, 0] @ torch.arange(7.0), (states, weight))
    torch.testing.assert_close(mine, theirs)
    assert max(rows_at_once) == min(chunk, 7)
