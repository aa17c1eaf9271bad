"""Janus against plain ``transformers`` and against the slow loop without cache, padding or batch."""

import pytest
import torch

from pairuni.policies.decoding.sampling import uniform_noise
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.rollouts import IMAGE_STREAM
from reference.janus_decoding import draw_image


def chat(processor, text, with_image=False):
    content = [{"type": "image"}] if with_image else []
    message = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
    return processor.apply_chat_template([message], add_generation_prompt=True)


def test_greedy_image_tokens_equal_transformers(policy, prompts):
    texts = [chat(policy.processor, prompt) for prompt in prompts]
    inputs = policy.processor(text=texts, generation_mode="image", return_tensors="pt", padding=True)
    assert (inputs["attention_mask"] == 0).any()
    expected = policy.module.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=5)
    groups = policy.sample_images(ImageSampling(prompts=prompts, rollouts=2, temperature=0.0, guidance=5.0))
    for group, row in zip(groups, expected, strict=True):
        for rollout in group:
            assert torch.equal(rollout.tokens, row)
    assert len({tuple(row.tolist()) for row in expected}) == len(prompts)


def test_greedy_answers_equal_transformers(policy, images):
    questions = ["what?", "how many digits are there?", "which colour"]
    texts = [chat(policy.processor, question, with_image=True) for question in questions]
    rgb = [image.convert("RGB") for image in images]
    inputs = policy.processor(text=texts, images=rgb, return_tensors="pt", padding=True)
    inputs["pixel_values"] = policy.pixel_values(images)
    expected = policy.module.generate(**inputs, do_sample=False, max_new_tokens=24)
    answers = policy.sample_text(
        TextSampling(images=images, questions=questions, temperature=0.0, max_new_tokens=24)
    )
    length = inputs["input_ids"].shape[1]
    for group, row in zip(answers, expected[:, length:], strict=True):
        tokens = group[0].tokens
        assert torch.equal(tokens, row[: len(tokens)])
        assert (row[len(tokens) :] == policy.prompts.pad).all()


@pytest.mark.parametrize("branch", ["guided", "conditional"])
def test_samples_equal_the_slow_loop(policy, prompts, branch):
    groups = policy.sample_images(
        ImageSampling(prompts=prompts, rollouts=2, temperature=0.8, guidance=3.0, branch=branch, seed=11)
    )
    for index, group in enumerate(groups):
        for rollout, trajectory in enumerate(group):
            tokens, guided, conditional = draw_image(
                policy.module,
                trajectory.prompt_ids,
                pad=policy.prompts.pad,
                steps=policy.image_tokens,
                temperature=0.8,
                guidance=3.0,
                noise=uniform_noise(11, IMAGE_STREAM, index, rollout, policy.image_tokens),
            )
            assert trajectory.tokens.tolist() == tokens
            expected = torch.tensor(guided if branch == "guided" else conditional)
            torch.testing.assert_close(trajectory.log_probs, expected, atol=1e-4, rtol=0)


def test_guidance_of_one_equals_no_guidance(policy, prompts):
    settings = {"rollouts": 2, "temperature": 1.0, "guidance": 1.0, "seed": 4}
    guided = policy.sample_images(ImageSampling(prompts=prompts, **settings))
    conditional = policy.sample_images(ImageSampling(prompts=prompts, branch="conditional", **settings))
    for group, other in zip(guided, conditional, strict=True):
        for one, two in zip(group, other, strict=True):
            assert torch.equal(one.tokens, two.tokens)
            assert torch.equal(one.log_probs, two.log_probs)


def test_seeds_decide(policy, images):
    def tokens(seed):
        imaged = policy.sample_images(ImageSampling(prompts=["a cat"], rollouts=2, guidance=5.0, seed=seed))
        answered = policy.sample_text(
            TextSampling(images=images[:1], questions=["what?"], rollouts=2, max_new_tokens=12, seed=seed)
        )
        return [one.tokens.tolist() for one in (*imaged[0], *answered[0])]

    first = tokens(0)
    assert first == tokens(0)
    assert all(one != two for one, two in zip(first, tokens(1), strict=True))
    assert first[0] != first[1]
    assert first[2] != first[3]


def test_a_part_of_a_request_has_the_samples_of_the_whole(policy, images, prompts):
    questions = ["what?", "how many digits are there?", "which colour"]

    def sample(part, first):
        texts = TextSampling(
            images=images[part],
            questions=questions[part],
            rollouts=2,
            max_new_tokens=8,
            seed=3,
            first_prompt=first,
        )
        generated = ImageSampling(prompts=prompts[part], rollouts=2, guidance=5.0, seed=3, first_prompt=first)
        answers, made = policy.sample(texts, generated)
        return [[one.tokens.tolist() for one in group] for group in (*answers, *made)]

    complete = sample(slice(3), 0)
    part = sample(slice(1, 3), 1)
    assert part == [*complete[1:3], *complete[4:6]]


def test_trajectories_carry_what_replay_needs(policy, images):
    text = policy.sample_text(
        TextSampling(images=images[:1], questions=["what?"], temperature=0.5, max_new_tokens=6)
    )[0][0]
    assert text.log_probs.dtype == torch.float32
    assert [one.shape for one in text.pixel_values] == [(3, 32, 32)]
    assert (text.prompt_ids == policy.prompts.image).sum() == policy.image_tokens
    assert text.temperature == 0.5
    image = policy.sample_images(
        ImageSampling(prompts=["a cat"], temperature=0.5, guidance=2.0, branch="conditional")
    )[0][0]
    assert image.tokens.shape == (policy.image_tokens,)
    assert (image.temperature, image.guidance, image.branch) == (0.5, 2.0, "conditional")
    assert int(image.prompt_ids[-1]) == policy.prompts.begin_image


def test_generated_images(policy):
    images = policy.generate_images("a cat", 2, guidance=5.0, seed=1)
    assert [image.size for image in images] == [(32, 32)] * 2
    assert images[0].mode == "RGB"
    assert images[0].tobytes() != images[1].tobytes()


def test_errors_of_requests(policy, images):
    with pytest.raises(ValueError, match="1 images came with 2 questions"):
        policy.sample_text(TextSampling(images=images[:1], questions=["a", "b"], max_new_tokens=1))
    with pytest.raises(ValueError, match="512"):
        policy.sample_text(TextSampling(images=[None], questions=["a"], max_new_tokens=600))
    with pytest.raises(ValueError, match="<image_placeholder>"):
        policy.sample_text(
            TextSampling(images=[None], questions=["see <image_placeholder>"], max_new_tokens=1)
        )
