"""States of packed rows: logits of the original, no leaks between rows, gradients."""

import torch

from pairuni.policies.lumina_dimoo.model import guided
from pairuni.policies.lumina_dimoo.packing import PackedRows
from tiny_lumina import IDS


def test_logits_are_those_of_the_original(lumina, original):
    """Both rows, of different lengths, in one pack."""
    rows = [torch.tensor(case["tokens"]) for case in original["logits"]]
    states = lumina.states(rows, [torch.arange(len(row)) for row in rows])
    logits = torch.nn.functional.linear(states, lumina.model.lm_head.weight)
    expected = torch.tensor([values for case in original["logits"] for values in case["values"]])
    assert expected.std() > 1
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_a_pack_changes_no_row(lumina):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(64, (length,), generator=generator) for length in (9, 3, 9, 14, 1)]
    rows.append(rows[1].clone())
    wanted = [torch.arange(len(row)).flip(0) for row in rows]
    packed = lumina.states(rows, wanted).split([len(row) for row in rows])
    for row, places, states in zip(rows, wanted, packed, strict=True):
        torch.testing.assert_close(states, lumina.states([row], [places]), atol=1e-5, rtol=0)
    with torch.no_grad():
        fast = lumina.states(rows, wanted, forward=lumina.layers.inference(20))
    torch.testing.assert_close(fast, torch.cat(packed), atol=1e-5, rtol=1e-5)
    assert torch.equal(packed[1], packed[5])


def test_every_token_sees_its_whole_row_and_no_other(lumina):
    rows = [torch.tensor([1, 2, 3, 4]), torch.tensor([5, 6, 7, 8, 9])]
    wanted = [torch.tensor([0]), torch.tensor([0])]
    before = lumina.states(rows, wanted)
    rows[1] = torch.tensor([5, 6, 7, 8, 10])
    after = lumina.states(rows, wanted)
    torch.testing.assert_close(after[0], before[0], atol=1e-6, rtol=0)
    assert (after[1] - before[1]).abs().max() > 1e-2


def test_gradients_are_those_of_single_rows_with_and_without_checkpointing(lumina):
    rows = [torch.tensor([1, 2, 30]), torch.tensor([4, 30]), torch.tensor([1, 2, 30])]
    wanted = [torch.tensor([2]), torch.tensor([1]), torch.tensor([0])]
    found = []
    for packed, checkpointing in ((False, False), (True, False), (True, True)):
        lumina.model.zero_grad()
        groups = [(rows, wanted)] if packed else [([row], [at]) for row, at in zip(rows, wanted, strict=True)]
        for some, at in groups:
            lumina.states(some, at, checkpointing=checkpointing).square().sum().backward()
        found.append({name: one.grad.clone() for name, one in lumina.model.model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[2][name], found[1][name], atol=1e-6, rtol=1e-6)


def test_rows_of_one_length_share_a_call():
    packing = PackedRows([3, 1, 3])
    assert packing.order == [1, 0, 2]
    assert packing.starts == [1, 0, 4]
    assert packing.positions.tolist() == [0, 0, 1, 2, 0, 1, 2]


def test_heads(lumina):
    features = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    full = features @ lumina.model.lm_head.weight.T
    codes = lumina.code_head()
    torch.testing.assert_close(codes.logits(features), full[:, IDS.codes :])
    text = lumina.text_head().logits(features)
    assert torch.isneginf(text[:, IDS.mask]).all()
    kept = torch.arange(64) != IDS.mask
    torch.testing.assert_close(text[:, kept], full[:, kept])


def test_log_probs_of_heads_and_their_gradients(lumina):
    """Against autograd on the whole table; the mask gets no probability and no gradient."""
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(6, 32, generator=generator)
    temperature = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0, 0.7])
    weight = lumina.model.lm_head.weight
    upstream = torch.randn(6, generator=generator)
    for head, first, last in ((lumina.text_head(), 0, 64), (lumina.code_head(), IDS.codes, 64)):
        choices = torch.randint(last - first, (6,), generator=generator)
        choices[choices + first == IDS.mask] += 1
        results = []
        for literal in (True, False):
            features = start.clone().requires_grad_()
            weight.grad = None
            if literal:
                table = features @ weight.T / temperature[:, None]
                hidden = torch.zeros(64, dtype=torch.bool)
                hidden[:first] = True
                hidden[IDS.mask] = True
                table = table.masked_fill(hidden, -torch.inf).log_softmax(-1)
                values = table[torch.arange(6), choices + first]
            else:
                values = head.log_probs(features, choices, temperature)
            (values * upstream).sum().backward()
            results.append((values.detach(), features.grad, weight.grad))
        for expected, found in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_guidance_is_a_linear_combination():
    c, u, v = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(guided(c, [(u, 4.0)]), 5 * c - 4 * u)
    torch.testing.assert_close(guided(c, [(u, 2.5), (v, 4.0)]), c + 2.5 * (c - u) + 4 * (c - v))
    assert guided(c, []) is c
