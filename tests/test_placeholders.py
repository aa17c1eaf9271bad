"""Image placeholders are removed from the ends of a text; inside, they and special tokens are faults."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairuni.placeholders import placeholder_fault, without_placeholders

MARKS = [
    *("<image>", "<IMAGE>", "<image/>", "<image_placeholder>", "<img>", "<image 1>", "<image_1>", "<image1>"),
    *(
        "<|image|>",
        "<|image_1|>",
        "<|image_pad|>",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<|IMAGE|>",
    ),
    *("[IMG]", "[IMG][IMG_BREAK][IMG_END]", "<begin_of_image>", "<end_of_image>", "<start_of_image>"),
    *("<|begin_of_image|><|image|><|end_of_image|>", "<|start_of_image|>"),
    *("<im_start><im_patch><im_end>", "<ImageHere>", "<IMG_CONTEXT>", "<image_soft_token>", "<video>"),
    *("Picture 1: <img>folder/a.png</img>", "Picture 1: <|vision_start|><|image_pad|><|vision_end|>"),
    *("<fake_token_around_image><image><fake_token_around_image>", "<patch_placeholder>", "<img></img>"),
]
TOKENS = [
    "<|User|>",
    "<|Assistant|>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<|im_end|>",
    "<|ref|>",
    "<|/ref|>",
]
PLAIN = [
    *("How many?", "Is 3 < 4 > 2?", "What does the tag <b> do?", "<imagery>", "if a < image width", "a || b"),
    *(
        "[img]",
        "<image width=3>",
        "Which image is it, image 1?",
        "Picture 1: a cat",
        "<|",
        "x <| y |> z",
        "<||>",
    ),
]


@pytest.mark.parametrize("mark", MARKS)
def test_placeholders_are_removed_at_the_ends_and_named_inside(mark):
    for form in ("{0}How many?", "{0}\nHow many?", "How many?\n{0}", " {0} \n{0} How many? {0}\n"):
        text = form.format(mark)
        assert without_placeholders(text) == "How many?"
        assert placeholder_fault(text) is not None
    inside = f"Is {mark} a cat?"
    assert without_placeholders(inside) == inside
    assert "which stands for an image" in str(placeholder_fault(inside))
    assert without_placeholders(mark) == ""


@pytest.mark.parametrize("token", TOKENS)
def test_special_tokens_are_named_wherever_they_are(token):
    for text in (f"{token}How many?", f"How many?{token}", f"How {token} many?"):
        assert without_placeholders(text) == text
        assert f"contains {token}, which resembles a special token" in str(placeholder_fault(text))


@pytest.mark.parametrize("text", PLAIN)
def test_plain_texts_stay(text):
    assert without_placeholders(text) == text
    assert placeholder_fault(text) is None


@given(st.lists(st.sampled_from([*MARKS[:6], " ", "\n", "a", "?"]), max_size=12))
def test_only_placeholders_and_blanks_are_removed(parts):
    text = "".join(parts)
    rest = without_placeholders(text)
    assert rest in text
    assert without_placeholders(rest) == rest
    assert [one for one in rest if one in "a?"] == [one for one in parts if one in "a?"] or "<" in rest


@pytest.mark.parametrize("part", [" ", "<image> ", "Picture 1: ", "<img>", "<|", "<|a", "[IMG", "<image "])
def test_long_texts_take_linear_time(part):
    began = time.monotonic()
    for text in (part * 50_000 + "x", "x" + part * 50_000, part * 50_000):
        placeholder_fault(without_placeholders(text))
    assert time.monotonic() - began < 30
