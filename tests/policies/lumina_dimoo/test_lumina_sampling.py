"""Sampling: steps of the original with its noise, reproducible noise, independence of batches, early ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lumina_tasks import mixed_tasks, picture_task, text_task

from pairuni.policies.lumina_dimoo import sampling
from pairuni.policies.lumina_dimoo.sampling import sample
from pairuni.policies.lumina_dimoo.schedule import Step, picture_steps, text_steps
from tiny_lumina import IDS

VOCABULARY = 64


class OriginalNoise:
    """The random numbers of the original's calls, in their order, behind the two functions that draw ours."""

    def __init__(self, case, kind, monkeypatch):
        self.case, self.kind = case, kind
        self.rng = np.random.RandomState(case["seed"])
        self.step = 0
        monkeypatch.setattr(sampling, "noise_of", lambda *key: self)
        monkeypatch.setattr(sampling, "sample_categorical", self.sample)

    def integers(self, most):
        return 0

    def random(self, count):
        """Called for the choices and then, for pictures, for the confidence."""
        if self.kind == "text" or self.step % 2 == 0:
            if self.case["temperature"] > 0:
                self.gumbel = self._for_choices(count)
            self.step += 1
            return np.zeros(count)
        self.step += 1
        return self.rng.random_sample((1, count)).astype(np.float32).astype(np.float64)[0]

    def _for_choices(self, count):
        if self.kind == "codes":
            uniform = torch.from_numpy(self.rng.random_sample((1, count, IDS.codebook))).float()[0]
            return -torch.log(-torch.log(uniform + 1e-20) + 1e-20)
        before = torch.tensor(self.case["states"][self.step])
        uniform = torch.from_numpy(self.rng.random_sample((1, len(before), VOCABULARY)))[0]
        block, start = self.case["block"], len(self.case["prompt"]) + 1
        places = (before == IDS.mask).nonzero().squeeze(1)
        first = start + (int(places[0]) - start) // block * block
        places = places[(places >= first) & (places < first + block)]
        assert len(places) == count
        return -torch.log(-torch.log(uniform[places]))

    def sample(self, table, uniform):
        return (table + self.gumbel).argmax(dim=-1)


def states(trace):
    """The sequence before each step and after the last."""
    first = IDS.codes if trace.kind == "codes" else 0
    found = []
    for step in range(int(trace.steps.max()) + 2):
        row = trace.canvas.ids.clone()
        done = trace.steps < step
        row[trace.canvas.holes[: len(done)][done]] = trace.choices[done] + first
        found.append([*trace.prompt.ids.tolist(), *row.tolist()])
    return found


@pytest.mark.parametrize("case", range(3))
def test_text_is_set_as_by_the_original(lumina, original, monkeypatch, case):
    case = original["text"][case]
    OriginalNoise(case, "text", monkeypatch)
    task = text_task(
        case["prompt"], case["length"], case["block"], case["steps"], temperature=case["temperature"]
    )
    [[trace]] = sample(lumina, [task], 1)
    assert states(trace) == case["states"]


@pytest.mark.parametrize("case", range(3))
def test_pictures_are_set_as_by_the_original(lumina, original, monkeypatch, case):
    case = original["pictures"][case]
    OriginalNoise(case, "codes", monkeypatch)
    unconditional = ((case["unconditional"], case["strength"]),) if case["strength"] else ()
    task = picture_task(
        *(case["prompt"], case["height"], case["width"], case["steps"], unconditional),
        temperature=case["temperature"],
    )
    [[trace]] = sample(lumina, [task], 1)
    assert states(trace)[:-1] == case["states"]
    assert trace.choices.tolist() == case["codes"]


@pytest.mark.parametrize("case", range(2))
def test_edits_are_set_as_by_the_original(lumina, original, monkeypatch, case):
    case = original["edits"][case]
    OriginalNoise(case, "codes", monkeypatch)
    strengths = ("without_text", case["strength"]), ("without_image", case["image_strength"])
    unconditional = tuple((case[name], one) for name, one in strengths if one)
    task = picture_task(
        *(case["prompt"], case["height"], case["width"], case["steps"], unconditional),
        temperature=case["temperature"],
    )
    [[trace]] = sample(lumina, [task], 1)
    assert states(trace)[:-1] == case["states"]
    assert trace.choices.tolist() == case["codes"]


def test_batches_change_no_trace(lumina):
    tasks = mixed_tasks()
    together = sample(lumina, tasks, 3)
    alone = [sample(lumina, [task], 3)[0] for task in tasks]
    small = sample(lumina, tasks, 3, max_tokens=1)
    for one, other, third in zip(together, alone, small, strict=True):
        for found, expected, narrow in zip(one, other, third, strict=True):
            for trace in (expected, narrow):
                assert torch.equal(found.choices, trace.choices)
                assert torch.equal(found.steps, trace.steps)
                torch.testing.assert_close(found.log_probs, trace.log_probs, atol=1e-5, rtol=0)
            assert found.mask_seed == expected.mask_seed


def test_noise_is_of_seed_prompt_and_rollout(lumina):
    task = picture_task([1, 2], 3, 4, 4, noise=(1, 1, 0))
    first, again = sample(lumina, [task], 3)[0], sample(lumina, [task], 2)[0]
    assert all(torch.equal(one.choices, two.choices) for one, two in zip(first, again, strict=False))
    assert len({tuple(one.choices.tolist()) for one in first}) == 3
    assert len({one.mask_seed for one in first}) == 3
    for noise in ((2, 1, 0), (1, 1, 1)):
        [other] = sample(lumina, [replace(task, noise=noise)], 1)[0]
        assert not torch.equal(other.choices, first[0].choices)


def test_samples_follow_the_distribution(lumina):
    """One hole: frequencies of 3,000 choices against the softmax of the logits."""
    task = text_task([1, 2, 3], 1, 1, 1, temperature=2.0)
    choices = torch.stack([trace.choices[0] for trace in sample(lumina, [task], 3000)[0]])
    row = torch.cat([task.prompt.ids, task.canvas.ids])
    state = lumina.states([row], [task.canvas.holes + 3])
    expected = torch.softmax(lumina.text_head().logits(state)[0] / 2.0, dim=-1)
    found = torch.bincount(choices, minlength=VOCABULARY) / 3000
    assert (found - expected).abs().max() < 4 * (0.25 / 3000) ** 0.5
    assert found[IDS.mask] == 0


def test_a_text_ends_with_the_block_of_its_end(lumina):
    task = text_task([1, 2, 3], 8, 2, 4, noise=(3, 0, 0))
    whole = sample(lumina, [task], 4)[0]
    assert all(len(trace.choices) == 8 for trace in whole)
    stop = int(whole[0].choices[3])
    ended = sample(lumina, [replace(task, stop_ids=(stop,))], 4)[0]
    for trace, full in zip(ended, whole, strict=True):
        hits = (full.choices == stop).nonzero()
        length = 8 if not len(hits) else (int(hits[0]) // 2 + 1) * 2
        assert torch.equal(trace.choices, full.choices[:length])
        assert torch.equal(trace.steps, full.steps[:length])
    assert len(ended[0].choices) <= 4


def test_pictures_hold_codes_and_every_hole_is_set_once(lumina):
    [[trace]] = sample(lumina, [picture_task([1, 2], 4, 5, 6, (([36], 2.0),))], 1)
    assert trace.choices.min() >= 0
    assert trace.choices.max() < IDS.codebook
    counts = torch.bincount(trace.steps).tolist()
    assert counts == [step.count for step in picture_steps(20, 6)]
    assert (trace.log_probs <= 0).all()


def test_schedules():
    assert text_steps(8, 4, 6) == [
        *(Step(0, 4, 2, False), Step(0, 4, 1, False), Step(0, 4, 1, True)),
        *(Step(4, 8, 2, False), Step(4, 8, 1, False), Step(4, 8, 1, True)),
    ]
    assert [step.count for step in text_steps(2, 2, 5)] == [1, 1]
    assert text_steps(2, 2, 5)[-1].ends_block
    for steps in (1, 7, 35, 64, 5000):
        counts = [step.count for step in picture_steps(1024, steps)]
        assert sum(counts) == 1024
        assert min(counts) >= 1
        assert len(counts) == min(steps, len(counts)) <= 1024
    assert picture_steps(1024, 35)[-1].ends_block
    for impossible in ((8, 3, 2), (8, 4, 3), (0, 1, 1), (8, 4, 0)):
        with pytest.raises(ValueError, match="impossible"):
            text_steps(*impossible)
    with pytest.raises(ValueError, match="impossible"):
        picture_steps(4, 0)
