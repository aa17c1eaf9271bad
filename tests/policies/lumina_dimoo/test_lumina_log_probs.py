"""Estimators of log-probs: against sampling, a literal transcription with autograd, and enumeration."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from lumina_tasks import mixed_tasks, picture_task, text_task

from pairuni.policies.lumina_dimoo.log_probs import SequenceElbo, TraceReplay, log_probs, replay_tokens
from pairuni.policies.lumina_dimoo.packing import PackedRows
from pairuni.policies.lumina_dimoo.sampling import sample
from tiny_lumina import IDS


def literal(model, trace, hidden, place):
    """log p of the token in hole ``place`` while the tokens ``hidden`` are masked, by plain Llama code, one by one.

    ``transformers``' own forward pass gets a mask of zeros, with which it is bidirectional.
    """
    first = IDS.codes if trace.kind == "codes" else 0

    def features(prompt):
        row = trace.canvas.ids.clone()
        for hole, token in enumerate(trace.choices.tolist()):
            if not hidden[hole]:
                row[trace.canvas.holes[hole]] = token + first
        ids = torch.cat([prompt, row])[None]
        states = model(input_ids=ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1]))
        return states.last_hidden_state[0, len(prompt) + int(trace.canvas.holes[place])]

    c = features(trace.prompt.ids)
    mixed = c
    if trace.branch == "guided":
        for prompt, strength in trace.prompt.unconditional:
            mixed = mixed + strength * (c - features(prompt))
    return mixed


def literal_log_prob(lumina, trace, hidden, place):
    logits = lumina.model.lm_head.weight @ literal(lumina.model.model, trace, hidden, place)
    if trace.kind == "codes":
        logits = logits[IDS.codes :]
    else:
        logits = logits.masked_fill(torch.arange(len(logits)) == IDS.mask, -torch.inf)
    return (logits / (trace.temperature or 1.0)).log_softmax(-1)[trace.choices[place]]


@pytest.fixture
def traces(lumina):
    return [trace for group in sample(lumina, mixed_tasks(), 2) for trace in group]


def test_replay_gives_the_log_probs_of_sampling(lumina, traces):
    found = log_probs(lumina, traces, TraceReplay())
    for values, trace in zip(found, traces, strict=True):
        torch.testing.assert_close(values, trace.log_probs, atol=1e-5, rtol=0)


def test_replay_of_a_text_that_ended(lumina):
    task = text_task([1, 2, 3], 8, 2, 4, noise=(3, 0, 0))
    stop = int(sample(lumina, [task], 1)[0][0].choices[3])
    [[trace]] = sample(lumina, [replace(task, stop_ids=(stop,))], 1)
    assert len(trace.choices) == 4
    [values] = log_probs(lumina, [trace], TraceReplay())
    torch.testing.assert_close(values, trace.log_probs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shrink", [1, 2, 9])
def test_replay_and_its_gradient_are_those_of_a_literal_transcription(lumina, traces, shrink):
    traces = traces[::2]
    upstream = [
        torch.randn(len(trace.choices), generator=torch.Generator().manual_seed(4)) for trace in traces
    ]
    results = []
    for checkpointing in (None, False, True):
        lumina.model.zero_grad()
        if checkpointing is None:
            values = []
            for trace in traces:
                order = sorted(set(trace.steps.tolist()))
                groups = [order.index(step) // shrink for step in trace.steps.tolist()]
                values.append(
                    torch.stack(
                        [
                            literal_log_prob(lumina, trace, [other >= own for other in groups], place)
                            for place, own in enumerate(groups)
                        ]
                    )
                )
        else:
            values = log_probs(lumina, traces, TraceReplay(shrink=shrink), checkpointing=checkpointing)
        sum((one * weight).sum() for one, weight in zip(values, upstream, strict=True)).backward()
        results.append((values, {name: one.grad.clone() for name, one in lumina.model.named_parameters()}))
    (expected, gradients), *others = results
    for values, found in others:
        for one, other in zip(values, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, atol=2e-4, rtol=1e-4)


def test_replay_of_one_group_scores_everything_fully_masked(lumina, traces):
    found = log_probs(lumina, traces, TraceReplay(shrink=100))
    for values, trace in zip(found, traces, strict=True):
        everything = [True] * len(trace.choices)
        expected = [literal_log_prob(lumina, trace, everything, place) for place in range(len(everything))]
        torch.testing.assert_close(values, torch.stack(expected), atol=1e-5, rtol=0)


def exact_elbo(lumina, trace):
    """The bound per token: the mean over all orders of the log-prob of setting one token after another."""
    length = len(trace.choices)
    known = {}

    def score(hidden, place):
        if (hidden, place) not in known:
            known[hidden, place] = float(literal_log_prob(lumina, trace, hidden, place))
        return known[hidden, place]

    total = 0.0
    for order in permutations(range(length)):
        hidden = [True] * length
        for place in order:
            total += score(tuple(hidden), place)
            hidden[place] = False
    return total / math.factorial(length) / length


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("kind", ["text", "codes"])
@torch.no_grad()
def test_the_elbo_is_unbiased(lumina, kind, pairs):
    task = (
        text_task([1, 2, 3], 4, 4, 2)
        if kind == "text"
        else picture_task([4, 5], 2, 2, 2, (([36], 1.0),), temperature=1.5)
    )
    [[trace]] = sample(lumina, [task], 1)
    exact = exact_elbo(lumina, trace)
    drawn = [replace(trace, mask_seed=seed) for seed in range(1500 // pairs)]
    values = torch.cat(log_probs(lumina, drawn, SequenceElbo(pairs=pairs))).double()
    error = float(values.std()) / len(values) ** 0.5
    assert 0 < error < 0.05 * abs(exact)
    assert abs(float(values.mean()) - exact) < 4 * error


def test_the_elbo_and_its_gradient_are_those_of_a_literal_transcription(lumina, traces):
    traces, estimator = traces[::2], SequenceElbo(pairs=2)
    results = []
    for is_literal in (True, False):
        lumina.model.zero_grad()
        if is_literal:
            values = []
            for trace in traces:
                length, total = len(trace.choices), 0.0
                for view in estimator.views(trace):
                    hidden = view.hidden.tolist()
                    terms = [
                        literal_log_prob(lumina, trace, hidden, at) for at in range(length) if hidden[at]
                    ]
                    # two pairs of two masks each, (T + 1) / T for the drawn empty masks, T / l of the bound, 1 / T
                    total = total + (length + 1) / length * length / len(terms) * sum(terms) / 4 / length
                values.append(total)
        else:
            values = [one[0] for one in log_probs(lumina, traces, estimator)]
        sum(values).backward()
        results.append((values, {name: one.grad.clone() for name, one in lumina.model.named_parameters()}))
    (expected, gradients), (values, found) = results
    torch.testing.assert_close(torch.stack(values), torch.stack(expected), atol=1e-5, rtol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-4, rtol=1e-4)


def test_masks_are_coupled_and_belong_to_the_trace(lumina, traces):
    estimator = SequenceElbo(pairs=4)
    for trace in traces:
        views = estimator.views(trace)
        scored = torch.stack([view.scored for view in views]).sum(dim=0)
        assert scored.tolist() == [4] * len(trace.choices)
        again = estimator.views(trace)
        assert all(torch.equal(one.hidden, two.hidden) for one, two in zip(views, again, strict=True))
    first = log_probs(lumina, traces[:1], estimator)[0]
    assert torch.equal(first, log_probs(lumina, traces[:1], estimator)[0])
    other = log_probs(lumina, [replace(traces[0], mask_seed=traces[0].mask_seed + 1)], estimator)[0]
    assert not torch.equal(first, other)
    with torch.no_grad():
        lumina.model.lm_head.weight.mul_(0.5)
    assert not torch.equal(first, log_probs(lumina, traces[:1], estimator)[0])


@pytest.mark.parametrize("estimator", [TraceReplay(shrink=2), SequenceElbo(pairs=2)])
def test_batches_change_no_value(lumina, traces, estimator):
    together = log_probs(lumina, traces, estimator)
    for trace, values in zip(traces, together, strict=True):
        assert len(values) == estimator.decisions(trace)
        torch.testing.assert_close(values, log_probs(lumina, [trace], estimator)[0], atol=1e-5, rtol=0)


def test_tokens_of_a_replay(lumina):
    task = picture_task([4, 5], 3, 4, 4, (([36], 3.0),), temperature=3.0)
    [[trace, other]] = sample(lumina, [task], 2)
    canvas = 3 * (4 + 1) + 4  # three rows of codes with their newlines, four tokens around them
    state = 2 + canvas + 1 + canvas
    assert replay_tokens(lumina, [trace], TraceReplay()) == 4 * state
    assert replay_tokens(lumina, [trace, trace], TraceReplay(shrink=2)) == 2 * state
    # before the first step, the rollouts of a prompt do not differ
    assert not torch.equal(trace.choices[trace.steps == 0], other.choices[trace.steps == 0])
    assert replay_tokens(lumina, [trace, other], TraceReplay()) == (1 + 2 * 3) * state
    assert replay_tokens(lumina, [trace, other], TraceReplay(shrink=2)) == (1 + 2) * state
    conditional = replace(trace, branch="conditional")
    assert replay_tokens(lumina, [conditional], TraceReplay(shrink=4)) == 2 + canvas
    for impossible in (lambda: TraceReplay(shrink=0), lambda: SequenceElbo(pairs=0)):
        with pytest.raises(ValueError, match="at least 1"):
            impossible()


@pytest.mark.parametrize("estimator", [TraceReplay(), TraceReplay(shrink=3), SequenceElbo(pairs=2)])
def test_a_replay_packs_the_tokens_that_it_counts(lumina, traces, estimator, monkeypatch):
    packed = []

    def counting(lengths):
        packed.append(sum(lengths))
        return PackedRows(lengths)

    monkeypatch.setattr("pairuni.policies.lumina_dimoo.model.PackedRows", counting)
    for some in (traces, traces[:1], traces[2:4], [*traces[:3], traces[0]]):
        log_probs(lumina, some, estimator)
        assert packed.pop() == replay_tokens(lumina, some, estimator)
