"""Log-probs of given answers equal those of a plain forward pass."""

import pytest
import torch

from fake_policy import FakePolicy


@torch.no_grad()
def plain_log_probs(policy, image, question, answer):
    tokens = policy.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
    prompt = policy.prompts.understanding(question, images=int(image is not None))
    ids = torch.cat([prompt, torch.tensor(tokens)]).unsqueeze(0)
    inputs = {} if image is None else {"pixel_values": policy.pixel_values([image])}
    logits = policy.module(input_ids=ids, **inputs).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(dim=-1)[torch.arange(len(tokens)), tokens]


def test_given_answers_have_the_log_probs_of_a_plain_forward(policy, images):
    cases = [(images[0], "what?", "red"), (None, "no image", " yes it is"), (images[1], "what?", "b")]
    images, questions, answers = zip(*cases, strict=True)
    scored = policy.score_text(images, questions, answers)
    for one, (image, question, answer) in zip(scored, cases, strict=True):
        expected = plain_log_probs(policy, image, question, answer)
        torch.testing.assert_close(one.log_probs, expected, atol=1e-4, rtol=0)
        assert not one.log_probs.requires_grad


def test_nothing_given_nothing_scored(policy):
    assert policy.score_text([], [], []) == []


def test_an_empty_answer_is_refused(policy, images):
    with pytest.raises(ValueError, match="is empty"):
        policy.score_text([images[0]], ["what?"], [""])


def test_a_policy_that_cannot_score_says_so():
    with pytest.raises(NotImplementedError, match="The policy fake cannot score"):
        FakePolicy().score_text([None], ["what?"], ["red"])
