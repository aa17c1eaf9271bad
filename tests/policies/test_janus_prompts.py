"""Prompts equal the official DeepSeek format and those of the ``transformers`` processor."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from pairuni.policies.janus.conversation import FORMATS, SYSTEM_PROMPT
from pairuni.policies.janus.prompts import CHAT_TEMPLATE, JanusPrompts
from tiny_models import BOS, tiny_processor

ORIGINAL = json.loads((Path(__file__).parents[1] / "reference" / "janus_prompts.json").read_text("utf-8"))


def official(processor):
    """The processor of an original checkpoint: default template, with system prompt."""
    processor.chat_template = CHAT_TEMPLATE
    processor.use_default_system_prompt = True
    return processor


@pytest.mark.parametrize("system", [False, True])
def test_understanding_equals_the_processor(system):
    processor = tiny_processor()
    processor.use_default_system_prompt = system
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many?"}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    expected = processor(text=[text], images=[Image.new("RGB", (8, 8))], return_tensors="pt")["input_ids"][0]
    assert torch.equal(JanusPrompts(processor).understanding("how many?", images=1), expected)


def test_generation_equals_the_processor():
    processor = tiny_processor()
    processor.use_default_system_prompt = True
    message = {"role": "user", "content": [{"type": "text", "text": "a cat"}]}
    text = processor.apply_chat_template([message], add_generation_prompt=True)
    expected = processor(text=[text], generation_mode="image", return_tensors="pt")["input_ids"][0]
    assert torch.equal(JanusPrompts(processor).generation("a cat"), expected)


def test_default_template_is_the_official_format():
    processor = official(tiny_processor())
    prompts, tokenizer = JanusPrompts(processor), processor.tokenizer
    image = "<begin_of_image>" + "<image_placeholder>" * 16 + "<end_of_image>"
    question = tokenizer.decode(prompts.understanding("  how many?\n", images=1))
    assert question == (
        f"<｜begin▁of▁sentence｜>{SYSTEM_PROMPT}<|User|>: {image}\n  how many?\n\n<|Assistant|>:"
    )
    assert SYSTEM_PROMPT.endswith("natural language.\n\n")
    generation = tokenizer.decode(prompts.generation("a cat"))
    assert generation == "<｜begin▁of▁sentence｜><|User|>: a cat\n\n<|Assistant|>:<begin_of_image>"
    plain = tokenizer.decode(prompts.understanding("why?", images=0))
    assert plain == f"<｜begin▁of▁sentence｜>{SYSTEM_PROMPT}<|User|>: why?\n\n<|Assistant|>:"


@pytest.mark.parametrize("name", ["deepseek", "deepseek_old"])
@pytest.mark.parametrize("case", range(8))
def test_prompts_equal_the_original_code(name, case):
    """Stored prompts of the original's conversation code: roles, surrounding white space, the empty text."""
    expected = ORIGINAL["formats"][name][case]
    processor = official(tiny_processor())
    processor.chat_template = FORMATS[name].template()
    prompts, tokenizer = JanusPrompts(processor), processor.tokenizer
    image = "<begin_of_image>" + "<image_placeholder>" * 16 + "<end_of_image>"
    found = {
        "pictured": prompts.understanding(expected["text"], images=1),
        "asked": prompts.understanding(expected["text"], images=0),
        "drawn": prompts.generation(expected["text"]),
    }
    for kind, ids in found.items():
        assert tokenizer.decode(ids) == BOS + expected[kind].replace("<image_placeholder>", image)


@pytest.mark.parametrize("name", ["deepseek", "deepseek_old"])
def test_chat_templates_equal_the_original_code(name):
    """In plain ``transformers``, the templates that a conversion writes."""
    processor = official(tiny_processor())
    processor.chat_template = FORMATS[name].template()
    for expected in ORIGINAL["formats"][name]:
        content = [{"type": "image"}, {"type": "text", "text": expected["text"]}]
        for kind, shown in (("pictured", content), ("asked", content[1:])):
            text = processor.apply_chat_template(
                [{"role": "user", "content": shown}], add_generation_prompt=True, tokenize=False
            )
            assert SYSTEM_PROMPT + text == expected[kind]


def test_another_chat_template_is_followed():
    processor = official(tiny_processor())
    processor.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{% for part in m['content'] %}"
        "{{ '<image_placeholder>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endfor %}"
    )
    prompts = JanusPrompts(processor)
    assert prompts.format is None
    assert processor.tokenizer.decode(prompts.generation(" a cat")) == f"{BOS}[user] a cat<begin_of_image>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0]['content'][0]['text'] }}", "does not show one placeholder"),
        ("{{ '<image_placeholder>' }}{{ messages[0]['content'][-1]['text'] }}", "does not show one"),
        ("{% for m in messages %}", "fails"),
        ("{{ raise_exception('no') }}", "fails (no)"),
        ("{{ 1 / 0 }}", "fails (division by zero)"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template, reason):
    processor = tiny_processor()
    processor.chat_template = template
    with pytest.raises(ValueError, match=re.escape(reason)):
        JanusPrompts(processor)


def test_default_template_holds_a_conversation():
    processor = official(tiny_processor())
    text = processor.apply_chat_template(
        [
            {"role": "user", "content": [{"type": "text", "text": "one"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "three"},
        ],
        add_generation_prompt=True,
    )
    assert text == (
        "<|User|>: one\n\n<|Assistant|>: two<｜end▁of▁sentence｜><|User|>: three\n\n<|Assistant|>:"
    )


def test_unconditional_keeps_bos_and_begin_of_image_alone():
    prompts = JanusPrompts(tiny_processor())
    ids = prompts.generation("a cat")
    masked = prompts.unconditional(ids)
    assert len(masked) == len(ids)
    assert (int(masked[0]), int(masked[-1])) == (prompts.bos, prompts.begin_image)
    assert (masked[1:-1] == prompts.pad).all()


def test_begin_of_sentence_is_put_in_front_once():
    processor = tiny_processor()
    expected = JanusPrompts(processor).generation("a cat")
    processor.tokenizer.add_bos_token = False
    assert torch.equal(JanusPrompts(processor).generation("a cat"), expected)
    assert (expected == JanusPrompts(processor).bos).sum() == 1


@pytest.mark.parametrize("token", ["<begin_of_image>", "<｜end▁of▁sentence｜>"])
def test_special_tokens_in_user_text_are_refused(token):
    prompts = JanusPrompts(tiny_processor())
    with pytest.raises(ValueError, match=r"contains the special token"):
        prompts.generation(f"a cat {token}")


@pytest.mark.parametrize("token", ["<image_placeholder>", "<|User|>", "<｜▁pad▁｜>", "<|grounding|>"])
def test_a_fault_names_any_special_token_of_the_checkpoint(token):
    processor = tiny_processor()
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|User|>", "<|grounding|>"]})
    prompts = JanusPrompts(processor)
    assert prompts.fault(f"how{token} many?") == f"contains the special token {token}; remove it"
    assert prompts.fault("how many <b>cats</b>, |User|?") is None


def test_a_tokenizer_of_another_model_is_refused():
    processor = tiny_processor()
    processor.image_start_token = "<boi>"
    with pytest.raises(ValueError, match=r"no begin-of-image token \(<boi>\)"):
        JanusPrompts(processor)
