"""Log-probs of Emu3's trajectories: replay equals sampling, and a plain forward pass of ``transformers``."""

import pytest
import torch

from pairuni.policies.emu3.prompts import NEGATIVE_PROMPT
from pairuni.policies.requests import ImageSampling, TextSampling
from tiny_emu3 import CODES, END_OF_LINE

QUESTIONS = ["what is it?", "how many digits are there?"]
PROMPTS = ["a", "two red dogs and one blue digit"]


def answers(policy, pictures, temperature):
    request = TextSampling(
        images=pictures, questions=QUESTIONS, rollouts=2, temperature=temperature, max_new_tokens=7
    )
    return [one for group in policy.sample_text(request) for one in group]


def drawings(policy, temperature, guidance, branch):
    request = ImageSampling(
        prompts=PROMPTS, rollouts=2, temperature=temperature, guidance=guidance, branch=branch
    )
    return [one for group in policy.sample_images(request) for one in group]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("branch", ["guided", "conditional"])
@pytest.mark.parametrize(("temperature", "guidance"), [(1.0, 3.0), (0.7, 1.0), (0.0, 5.0)])
def test_replay_equals_sampling(fresh_emu3, pictures, temperature, guidance, branch, checkpointing):
    fresh_emu3.activation_checkpointing = checkpointing
    sampled = drawings(fresh_emu3, temperature, guidance, branch)
    sampled += answers(fresh_emu3, pictures, temperature)
    replayed = fresh_emu3.log_probs(sampled)
    for row, mask, one in zip(replayed.values, replayed.mask, sampled, strict=True):
        assert mask.sum() == one.decisions == len(one.tokens)
        torch.testing.assert_close(row[mask.bool()].detach(), one.log_probs, atol=1e-4, rtol=0)


def test_replay_of_truncated_sampling(emu3, pictures):
    texts = TextSampling(
        images=pictures, questions=QUESTIONS, rollouts=2, top_k=5, top_p=0.9, max_new_tokens=7
    )
    images = ImageSampling(prompts=PROMPTS, rollouts=2, guidance=3.0, top_k=5)
    groups = [*emu3.sample_text(texts), *emu3.sample_images(images)]
    sampled = [one for group in groups for one in group]
    replayed = emu3.log_probs(sampled)
    for row, mask, one in zip(replayed.values, replayed.mask, sampled, strict=True):
        assert one.kept is not None
        assert len(one.kept) == len(one.tokens)
        torch.testing.assert_close(row[mask.bool()].detach(), one.log_probs, atol=1e-4, rtol=0)


def full_ids(policy, codes):
    """Ids of a drawing by name, one token after the other, with the end of each row."""
    ids = policy.processor.tokenizer.convert_tokens_to_ids
    rows = [codes[start : start + 4].tolist() for start in (0, 4, 8)]
    names = [
        name for row in rows for name in (*(f"<|visual token {code:06d}|>" for code in row), END_OF_LINE)
    ]
    return torch.tensor([ids(name) for name in names])


def plain_logits(policy, prompt, codes):
    """Logits of the visual tokens [12, CODES] at the places of the codes, by the model's own forward pass."""
    sequence = full_ids(policy, codes)
    logits = policy.module(input_ids=torch.cat([prompt, sequence])[None]).logits[0]
    ids = policy.processor.tokenizer.convert_tokens_to_ids
    visual = [ids(f"<|visual token {code:06d}|>") for code in range(CODES)]
    before = [len(prompt) - 1 + 5 * row + column for row in range(3) for column in range(4)]
    return logits[before][:, visual]


@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_log_probs_and_gradients_equal_a_plain_forward_pass(fresh_emu3, branch):
    policy = fresh_emu3
    parameters = policy.train_only(["language_model"])
    sampled = drawings(policy, 0.8, 3.0, branch)
    policy.log_probs(sampled).values.sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in parameters}
    policy.module.zero_grad()
    total = torch.zeros(())
    for one in sampled:
        logits = plain_logits(policy, one.prompt_ids, one.tokens)
        if branch == "guided":
            header = one.prompt_ids[
                (one.prompt_ids == policy.processor.tokenizer.boi_token_id).nonzero()[0, 0] :
            ]
            negative = policy.processor(text=[NEGATIVE_PROMPT], return_tensors="pt")["input_ids"][0]
            other = plain_logits(policy, torch.cat([negative, header]), one.tokens)
            logits = other + 3.0 * (logits - other)
        values = (logits / 0.8).log_softmax(dim=-1).gather(1, one.tokens[:, None]).squeeze(1)
        torch.testing.assert_close(values.detach(), one.log_probs, atol=1e-4, rtol=0)
        total = total + values.sum()
    total.backward()
    for name, parameter in parameters:
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-4 * scale + 1e-6, rtol=1e-3)
    assert ours["lm_head.weight"].abs().max() > 0


def test_answers_equal_a_plain_forward_pass(emu3, pictures):
    for one in answers(emu3, pictures, 0.5):
        ids = torch.cat([one.prompt_ids, one.tokens])[None]
        logits = emu3.module(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1]
        expected = (logits / 0.5).log_softmax(dim=-1).gather(1, one.tokens[:, None]).squeeze(1)
        torch.testing.assert_close(one.log_probs, expected.detach(), atol=1e-4, rtol=0)


def test_given_answers_are_scored(emu3, pictures):
    (scored,) = emu3.score_text(pictures[:1], ["what?"], ["red"])
    ids = emu3.processor.tokenizer("red")["input_ids"]
    ((asked,),) = emu3.sample_text(TextSampling(images=pictures[:1], questions=["what?"], max_new_tokens=1))
    prompt = asked.prompt_ids
    logits = emu3.module(input_ids=torch.cat([prompt, torch.tensor(ids)])[None]).logits[
        0, len(prompt) - 1 : -1
    ]
    expected = logits.log_softmax(dim=-1)[range(3), ids]
    torch.testing.assert_close(scored.log_probs, expected.detach(), atol=1e-4, rtol=0)


def test_costs_count_the_tokens_that_are_read(emu3, pictures):
    """A prompt of P tokens with 3 x 4 codes: 12 codes and 2 ends of line, of which the last is not read."""
    guided, plain = drawings(emu3, 1.0, 3.0, "guided")[:2], drawings(emu3, 1.0, 1.0, "guided")[:1]
    prompt = len(guided[0].prompt_ids)
    negative = len(emu3.prompts.unconditional(guided[0].prompt_ids))
    assert emu3.replay_cost(plain).tokens == prompt + 13
    assert emu3.replay_cost(guided).tokens == prompt + negative + 2 * 2 * 13
    assert emu3.replay_cost(answers(emu3, pictures, 1.0)[:1]).tokens == (
        len(answers(emu3, pictures, 1.0)[0].prompt_ids) + 6
    )
