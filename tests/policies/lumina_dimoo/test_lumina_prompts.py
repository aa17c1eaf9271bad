"""Prompts are those of the original's scripts; see ``tests/reference/make_lumina_dimoo.py``."""

import pytest
import torch

from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.prompts import LuminaPrompts
from tiny_lumina import plain_tokenizer

PROMPTS = LuminaPrompts(plain_tokenizer(), TokenIds())


def cases(original, kind):
    return [case for case in original["prompts"] if case["kind"] == kind]


def codes(case):
    return torch.arange(case["height"] * case["width"]).view(case["height"], case["width"])


def whole(prompt, canvas):
    return torch.cat([prompt.ids, canvas.ids]).tolist()


def test_questions(original):
    for case in cases(original, "question"):
        prompt = PROMPTS.question(case["text"], codes(case))
        canvas = PROMPTS.text_canvas(5)
        assert whole(prompt, canvas)[: case["start"]] == case["ids"]
        assert len(prompt.ids) + int(canvas.holes[0]) == case["start"]
        assert canvas.ids.tolist() == [126354, *[126336] * 5, 126355]
        assert canvas.holes.tolist() == [1, 2, 3, 4, 5]
        assert prompt.unconditional == ()
        without = PROMPTS.question(case["text"], None).ids.tolist()
        assert without == [*case["ids"][: len(without) - 1], case["ids"][-2]]


def test_drawings(original):
    for case in cases(original, "drawing"):
        prompt = PROMPTS.drawing(case["text"], 5.0)
        canvas = PROMPTS.picture_canvas(case["height"], case["width"])
        assert whole(prompt, canvas) == case["ids"]
        assert len(prompt.ids) + int(canvas.holes[0]) == case["start"]
        assert canvas.holes.tolist() == [2, 3, 4, 6, 7, 8]
        [(unconditional, strength)] = prompt.unconditional
        assert (unconditional.tolist(), strength) == (case["without_text"], 4.0)
        assert PROMPTS.drawing(case["text"], 1.0).unconditional == ()


def test_edits(original):
    for case in cases(original, "editing"):
        prompt = PROMPTS.editing(case["text"], codes(case), 3.5, 5.0)
        assert whole(prompt, PROMPTS.picture_canvas(case["height"], case["width"])) == case["ids"]
        (without_text, text), (without_image, image) = prompt.unconditional
        assert (without_text.tolist(), text) == (case["without_text"], 2.5)
        assert (without_image.tolist(), image) == (case["without_image"], 4.0)
        assert len(PROMPTS.editing(case["text"], codes(case), 1.0, 5.0).unconditional) == 1


@pytest.mark.parametrize(
    "token", ["</user>", "<system>", "<uncondition>", "</answer>", "<IMAGE>", "<begin_of_image>"]
)
def test_special_tokens_are_refused(token):
    assert token in PROMPTS.fault(f"a {token} b")
    assert PROMPTS.fault("a < b") is None
    for make in (
        lambda text: PROMPTS.question(text, None),
        lambda text: PROMPTS.drawing(text, 1.0),
        lambda text: PROMPTS.editing(text, torch.zeros(1, 1, dtype=torch.long), 1.0, 1.0),
    ):
        with pytest.raises(ValueError, match="special token"):
            make(f"a {token} b")
