"""Teacher-forced log-probs: equal to those at sampling, correct gradients, no redundant work."""

import pytest
import torch

from pairuni.policies import scoring
from pairuni.policies.replay import linear_log_probs
from pairuni.policies.requests import ImageSampling, TextSampling

TOLERANCE = {"atol": 1e-4, "rtol": 0}


def some_texts(policy, images, *, temperature=1.0, seed=0):
    groups = policy.sample_text(
        TextSampling(
            images=[*images[:2], None],
            questions=["what?", "how many digits are there?", "no image here"],
            rollouts=2,
            temperature=temperature,
            max_new_tokens=14,
            seed=seed,
        )
    )
    return [one for group in groups for one in group]


def some_images(policy, prompts, *, guidance=5.0, branch="guided", temperature=1.0, seed=0):
    groups = policy.sample_images(
        ImageSampling(
            prompts=prompts, rollouts=2, temperature=temperature, guidance=guidance, branch=branch, seed=seed
        )
    )
    return [one for group in groups for one in group]


def assert_replayed(policy, trajectories):
    scored = policy.log_probs(trajectories)
    assert (
        scored.values.shape
        == scored.mask.shape
        == (len(trajectories), max(len(t.tokens) for t in trajectories))
    )
    for row, trajectory in enumerate(trajectories):
        count = len(trajectory.tokens)
        assert scored.mask[row].tolist() == [1.0] * count + [0.0] * (scored.mask.shape[1] - count)
        torch.testing.assert_close(scored.values[row, :count].detach(), trajectory.log_probs, **TOLERANCE)
        assert (scored.values[row, count:] == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_text_replay_equals_sampling(policy, images, temperature):
    assert_replayed(policy, some_texts(policy, images, temperature=temperature))


@pytest.mark.parametrize("branch", ["guided", "conditional"])
@pytest.mark.parametrize(("guidance", "temperature"), [(5.0, 1.0), (1.0, 0.7), (2.5, 0.0)])
def test_image_replay_equals_sampling(policy, prompts, branch, guidance, temperature):
    sampled = some_images(policy, prompts, guidance=guidance, branch=branch, temperature=temperature)
    assert_replayed(policy, sampled)


def test_mixed_trajectories_keep_their_order_and_settings(policy, images, prompts):
    texts = some_texts(policy, images, temperature=0.6)
    guided = some_images(policy, prompts, guidance=5.0)
    conditional = some_images(policy, prompts, guidance=3.0, branch="conditional", temperature=1.4)
    plain = some_images(policy, prompts, guidance=1.0)
    mixed = [row for rows in zip(texts, guided, conditional, plain, strict=True) for row in rows]
    assert_replayed(policy, mixed)


def embedding_gradient(policy, trajectories):
    policy.module.zero_grad()
    policy.log_probs(trajectories).values.sum().backward()
    return policy.module.get_input_embeddings().weight.grad


def test_gradient_flows_through_both_branches(fresh_policy, prompts):
    """Only the unconditional prompt contains the pad token."""
    policy = fresh_policy
    guided = embedding_gradient(policy, some_images(policy, prompts)).clone()
    assert guided[policy.prompts.pad].norm() > 0
    word = policy.processor.tokenizer.convert_tokens_to_ids("c")
    assert guided[word].norm() > 0
    conditional = embedding_gradient(policy, some_images(policy, prompts, branch="conditional"))
    assert conditional[policy.prompts.pad].norm() == 0
    assert conditional[word].norm() > 0


def test_gradient_of_both_branches_is_that_of_the_formula(fresh_policy):
    """Guided log-probs against u + g (c - u) of two separate, unpadded forward passes."""
    policy, model = fresh_policy, fresh_policy.module
    trajectory = some_images(policy, ["a cat"], guidance=3.0, temperature=0.9)[0]
    mine = embedding_gradient(policy, [trajectory]).clone()
    model.zero_grad()

    def logits(prompt):
        embeds = torch.cat(
            [
                model.get_input_embeddings()(prompt),
                model.prepare_embeddings_for_image_generation(trajectory.tokens[:-1]),
            ]
        )
        states = model.model.language_model(inputs_embeds=embeds[None]).last_hidden_state[0]
        return model.model.generation_head(states[len(prompt) - 1 :])

    conditional = logits(trajectory.prompt_ids)
    other = logits(policy.prompts.unconditional(trajectory.prompt_ids))
    scores = torch.log_softmax((other + 3.0 * (conditional - other)) / 0.9, dim=-1)
    scores.gather(1, trajectory.tokens[:, None]).sum().backward()
    torch.testing.assert_close(mine, model.get_input_embeddings().weight.grad, atol=1e-3, rtol=1e-3)


def test_heads_run_at_sampled_positions_only(policy, images, prompts, monkeypatch):
    """And the last layer of the image head runs once for both branches."""
    texts, sampled = some_texts(policy, images), some_images(policy, prompts)
    seen = []

    def counted(features, head, *rest):
        seen.append((head, len(features)))
        return linear_log_probs(features, head, *rest)

    monkeypatch.setattr(scoring, "linear_log_probs", counted)
    policy.log_probs([*texts, *sampled])
    assert seen == [
        (policy.module.lm_head, sum(len(text.tokens) for text in texts)),
        (policy.module.model.generation_head.vision_head, len(sampled) * policy.image_tokens),
    ]


def test_equal_images_are_encoded_once_and_a_frozen_tower_keeps_no_graph(fresh_policy, images):
    policy = fresh_policy
    texts = some_texts(policy, images)
    seen = []
    hook = policy.module.model.vision_model.register_forward_hook(
        lambda _, args, output: seen.append((args[0].shape[0], output.last_hidden_state.requires_grad))
    )
    policy.log_probs(texts)
    policy.train_only(["language_model", "aligner"])
    policy.log_probs(texts).values.sum().backward()
    hook.remove()
    assert seen == [(2, True), (2, False)]
    assert policy.module.model.aligner.fc1.weight.grad.norm() > 0


def test_sampled_placeholders_are_plain_tokens(policy, images):
    """An answer may contain the image token; only placeholders of the prompt are replaced by the image."""
    text = some_texts(policy, images)[0]
    tokens = text.tokens.clone()
    tokens[0] = policy.prompts.image
    forced = type(text)(**{**vars(text), "tokens": tokens})
    assert torch.isfinite(policy.log_probs([forced]).values).all()


def test_bfloat16_weights_score_in_float32(fresh_policy, images, prompts):
    policy = fresh_policy
    policy.module.to(torch.bfloat16)
    trajectories = [*some_texts(policy, images), *some_images(policy, prompts)]
    scored = policy.log_probs(trajectories)
    assert scored.values.dtype == torch.float32
    assert all(one.log_probs.dtype == torch.float32 for one in trajectories)
    # The probabilities of all first codes sum to one far more closely than bfloat16 could hold them.
    first = next(one for one in trajectories if one.modality == "image")
    codes = [torch.tensor([code]) for code in range(24)]
    alone = policy.log_probs([type(first)(**{**vars(first), "tokens": code}) for code in codes])
    torch.testing.assert_close(alone.values.exp().sum().item(), 1.0, atol=1e-5, rtol=0)


def test_nothing_to_score_is_named(policy):
    with pytest.raises(ValueError, match="no trajectories"):
        policy.log_probs([])
