"""Emu3 by the shared decode loop against ``generate`` of plain ``transformers``, used as its documentation says."""

import pytest
import torch

from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.emu3.prompts import NEGATIVE_PROMPT
from pairuni.policies.requests import ImageSampling, TextSampling
from tiny_emu3 import CODES, END_OF_LINE

HEIGHT, WIDTH = 3, 4
PROMPTS = ["a", "a cat on a mat", "two red dogs and one blue digit"]
QUESTIONS = ["what is it?", "how many digits are there?"]


def drawing_inputs(processor, prompt):
    return processor(
        text=[prompt],
        return_for_image_generation=True,
        ratio=f"{WIDTH}:{HEIGHT}",
        image_area=HEIGHT * WIDTH * 64,
        return_tensors="pt",
    )


def documented_constraint(model, processor):
    tokenizer = processor.tokenizer
    end_of_line = tokenizer.convert_tokens_to_ids(END_OF_LINE)

    def allowed(_, ids):
        start = (ids == tokenizer.image_wrapper_token_id).nonzero()[0, 0]
        offset = len(ids) - int(start)
        if offset % (WIDTH + 1) == 0:
            return [end_of_line]
        last = [tokenizer.eof_token_id, tokenizer.eoi_token_id, tokenizer.eos_token_id]
        if offset > (WIDTH + 1) * HEIGHT:
            return [last[offset - (WIDTH + 1) * HEIGHT - 1]]
        return model.vocabulary_mapping.image_tokens

    return allowed


def generated(model, processor, prompt, guidance):
    """Ids of a greedy drawing, the last of them end of frame, of image and of sequence."""
    inputs = drawing_inputs(processor, prompt)
    inputs.pop("image_sizes")
    found = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=100,
        prefix_allowed_tokens_fn=documented_constraint(model, processor),
        guidance_scale=guidance,
        negative_prompt_ids=drawing_inputs(processor, NEGATIVE_PROMPT)["input_ids"],
    )
    return found[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_drawings_equal_transformers(emu3, guidance):
    model, processor = emu3.module, emu3.processor
    groups = emu3.sample_images(
        ImageSampling(prompts=PROMPTS, rollouts=2, temperature=0.0, guidance=guidance)
    )
    seen = set()
    for prompt, group in zip(PROMPTS, groups, strict=True):
        expected = generated(model, processor, prompt, guidance)
        assert expected.shape[1] == HEIGHT * (WIDTH + 1) + 3
        codes = model.vocabulary_mapping.convert_bpe2img(expected[0, :-3].view(HEIGHT, WIDTH + 1))
        for rollout in group:
            assert rollout.tokens.tolist() == codes.flatten().tolist()
        seen.add(tuple(group[0].tokens.tolist()))
        pixels = model.decode_image_tokens(image_tokens=expected, height=HEIGHT, width=WIDTH)
        (image,) = processor.postprocess(list(pixels), return_tensors="PIL.Image.Image")["pixel_values"]
        (ours,) = emu3.decode_images(group[:1])
        assert image.size == (8 * WIDTH, 8 * HEIGHT)
        assert ours.tobytes() == image.tobytes()
    assert len(seen) == len(PROMPTS)


def test_guidance_changes_drawings(emu3):
    drawn = [
        emu3.sample_images(ImageSampling(prompts=PROMPTS, temperature=0.0, guidance=guidance))
        for guidance in (1.0, 3.0)
    ]
    assert any(not torch.equal(a[0].tokens, b[0].tokens) for a, b in zip(*drawn, strict=True))


def test_greedy_answers_equal_transformers(emu3, pictures):
    answers = emu3.sample_text(
        TextSampling(images=pictures, questions=QUESTIONS, temperature=0.0, max_new_tokens=20)
    )
    for picture, question, (answer,) in zip(pictures, QUESTIONS, answers, strict=True):
        chat = emu3.processor.apply_chat_template(
            [
                {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]},
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
            ],
            add_generation_prompt=True,
        )
        inputs = emu3.processor(text=[chat], images=[picture.convert("RGB")], return_tensors="pt")
        expected = emu3.module.generate(**inputs, do_sample=False, max_new_tokens=20)
        assert answer.tokens.tolist() == expected[0, inputs["input_ids"].shape[1] :].tolist()
        assert not answer.finished
    assert emu3.answer(pictures[0], QUESTIONS[0], max_new_tokens=20) == answers[0][0].text


def test_the_prompt_of_a_question_holds_the_codes_of_its_image(emu3, pictures):
    ((answer,),) = emu3.sample_text(
        TextSampling(images=pictures[:1], questions=["what?"], temperature=0.0, max_new_tokens=1)
    )
    mapping = emu3.module.vocabulary_mapping
    text = emu3.processor.tokenizer.decode(answer.prompt_ids)
    assert text.startswith(
        "<|extra_203|>You are a helpful assistant. USER: <|image start|>2*4<|image token|>"
    )
    assert text.endswith("<|extra_201|><|image end|>what? ASSISTANT:")
    row = [mapping.bpe2img.get(token) for token in answer.prompt_ids.tolist()]
    assert sum(code is not None for code in row) == 2 * 4
    assert (answer.prompt_ids == mapping.eol_token_id).sum() == 2
    assert answer.pixel_values == ()


def test_answers_end_with_the_end_of_sequence(fresh_emu3):
    ((cut,),) = fresh_emu3.sample_text(
        TextSampling(images=[None], questions=["why?"], temperature=0.0, max_new_tokens=8)
    )
    fresh_emu3.stop_ids = (int(cut.tokens[3]),)
    ((ended,),) = fresh_emu3.sample_text(
        TextSampling(images=[None], questions=["why?"], temperature=0.0, max_new_tokens=8)
    )
    first = cut.tokens.tolist().index(int(cut.tokens[3]))
    assert ended.finished
    assert ended.tokens.tolist() == cut.tokens.tolist()[: first + 1]


def both(policy, pictures, prompts, questions, first=0):
    texts = TextSampling(
        images=pictures, questions=questions, rollouts=3, max_new_tokens=6, seed=5, first_prompt=first
    )
    images = ImageSampling(prompts=prompts, rollouts=3, guidance=2.0, seed=5, first_prompt=first)
    answers, drawings = policy.sample(texts, images)
    return [one for group in (*answers, *drawings) for one in group]


@pytest.mark.parametrize("settings", [{"max_rows": 2}, {"memory_budget": 1}, {"static": True}], ids=str)
def test_samples_do_not_depend_on_batches(emu3, fresh_emu3, pictures, settings):
    expected = both(emu3, pictures, PROMPTS, QUESTIONS)
    fresh_emu3.loop = DecodeLoop(fresh_emu3.inference.layers, **settings)
    for one, other in zip(both(fresh_emu3, pictures, PROMPTS, QUESTIONS), expected, strict=True):
        assert torch.equal(one.tokens, other.tokens)
        torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)


def test_a_part_of_the_prompts_is_sampled_alike(emu3, pictures):
    expected = both(emu3, pictures, PROMPTS[:2], QUESTIONS)
    found = both(emu3, pictures[1:], PROMPTS[1:2], QUESTIONS[1:], first=1)
    for one, other in zip(found, [*expected[3:6], *expected[9:]], strict=True):
        assert torch.equal(one.tokens, other.tokens)


def test_drawings_are_codes(emu3):
    (group,) = emu3.sample_images(ImageSampling(prompts=["a"], rollouts=40, guidance=1.0))
    tokens = torch.stack([one.tokens for one in group])
    assert tokens.shape == (40, HEIGHT * WIDTH)
    assert tokens.min() >= 0
    assert tokens.max() < CODES
    assert len(tokens.unique()) > CODES // 2
    assert all(one.log_probs.shape == (HEIGHT * WIDTH,) and (one.log_probs < 0).all() for one in group)


def test_what_does_not_fit_is_refused(emu3):
    with pytest.raises(ValueError, match="but the model has 512"):
        emu3.sample_text(TextSampling(images=[None], questions=["why?"], max_new_tokens=500))
    with pytest.raises(ValueError, match="but the model has 512"):
        emu3.sample_images(ImageSampling(prompts=["a" * 500], guidance=3.0))
    assert set(emu3.prompt_faults(["a", "a" * 500])) == {"a" * 500}


@pytest.mark.parametrize("token", ["<image>", "<|image end|>", "<|visual token 000007|>", "<|extra_204|>"])
def test_special_tokens_in_texts_are_refused(emu3, token):
    assert emu3.question_fault(f"a {token}") == f"contains the special token {token}; remove it"
    with pytest.raises(ValueError, match="special token"):
        emu3.sample_images(ImageSampling(prompts=[token], guidance=1.0))
    assert emu3.question_fault("a <b> | 7") is None
