"""Replies, lettered options, keys of requests, and prompts that name every field of their reply."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pairuni.chat.replies import Unusable, read_reply, schema_of
from pairuni.config import CompletionSettings
from pairuni.io.images import ImageError
from pairuni.pairug.completion import prompts
from pairuni.pairug.completion.dialogue import Half
from pairuni.pairug.completion.model_tasks import task_of
from pairuni.pairug.completion.options import LETTERS, balanced_letters, fault_of, lettered, shuffled
from pairuni.pairug.completion.prompts import CaptionReply, CaptionVerdict, QuestionReply, QuestionVerdict
from pairuni.pairug.completion.requests import RequestImage
from pairuni.records import GenerationSample, UnderstandingSample
from pairuni.rewards.answers.options import parse_options
from source_data import png_that_claims

VERDICT = {
    "answer_from_caption": "two",
    "answer_agrees": True,
    "contradicts_picture": False,
    "invents": False,
    "reason": "",
}
TASKS = {
    CaptionReply: prompts.WRITE_CAPTION,
    QuestionReply: prompts.WRITE_QUESTION,
    CaptionVerdict: prompts.VERIFY_CAPTION,
    QuestionVerdict: prompts.VERIFY_QUESTION,
}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"text": "", "refusal": "No."}, "the model refused: 'No.'"),
        ({"text": "", "finish": "content_filter"}, "the model refused: 'content filter'"),
        ({"text": "  "}, "the reply was empty"),
        ({"text": "<think>hm, let me", "finish": "length"}, "the reply was cut off before it began"),
        ({"text": json.dumps(VERDICT)[:-9], "finish": "length"}, "the reply was cut off: '{"),
        ({"text": json.dumps(VERDICT)[:-9], "finish": "stop"}, "the reply is not whole JSON: '{"),
        ({"text": "It is fine."}, "the reply is not whole JSON: 'It is fine.'"),
        ({"text": "[1, 2]"}, "the reply is not whole JSON: '[1, 2]'"),
        ({"text": '{"answer_agrees": true}'}, "the reply's answer_from_caption is missing"),
        (
            {"text": json.dumps({**VERDICT, "invents": "maybe"})},
            "the reply's invents is wrong (input should be a",
        ),
        (
            {"text": json.dumps({**VERDICT, "reason": None})},
            "the reply's reason is wrong (input should be a valid",
        ),
        ({"text": "{" * 3000}, "the reply is not whole JSON: '{{{"),
    ],
)
def test_replies_that_cannot_be_used_say_why(answer, reason):
    with pytest.raises(Unusable) as caught:
        read_reply(answer, CaptionVerdict)
    assert str(caught.value).startswith(reason)
    assert len(str(caught.value)) < 300


def test_the_templates_name_every_field_and_the_schemas_are_strict():
    for kind, template in TASKS.items():
        example = template[template.index("Reply as JSON:") :]
        assert re.findall(r'"(\w+)":', example) == list(kind.model_fields)
        schema = schema_of(kind)
        assert schema["required"] == list(schema["properties"]) == list(kind.model_fields)
        assert schema["additionalProperties"] is False
        for name, field in kind.model_fields.items():
            wanted = {str: "string", bool: "boolean"}.get(field.annotation, "array")
            assert schema["properties"][name]["type"] == wanted


words = st.text(st.characters(categories=("Ll", "Nd")), min_size=1, max_size=8).map(
    partial(unicodedata.normalize, "NFKC")  # as options are read
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(words, st.lists(words, min_size=4, max_size=4, unique=True), max_size=30),
    st.integers(0, 9),
)
def test_letters_are_balanced_and_depend_on_seed_and_ids_alone(options_of, seed):
    placed = balanced_letters(options_of, seed)
    assert placed.keys() == options_of.keys()
    counts = Counter(LETTERS[placed[id].index(options[0])] for id, options in options_of.items())
    assert all(sorted(placed[id]) == sorted(options) for id, options in options_of.items())
    if options_of:
        assert max(counts.values()) - min(counts[letter] for letter in "ABCD") <= 1
    assert balanced_letters(dict(reversed(list(options_of.items()))), seed) == placed
    for id, options in placed.items():
        assert list(parse_options(lettered(f"what is {id}?", options)).values()) == options


def test_another_seed_moves_the_letters():
    options_of = {f"q{number}": ["a", "b", "c", "d"] for number in range(40)}
    assert balanced_letters(options_of, 0) != balanced_letters(options_of, 1)
    assert shuffled("abcd", "x") == shuffled("dcba", "x")
    assert len({tuple(shuffled("abcd", number)) for number in range(40)}) > 10


@pytest.mark.parametrize(
    ("question", "right", "wrong", "reason"),
    [
        ("What is it? A. a cat B. a dog", "cat", ["dog"], "the question lists options itself"),
        ("What is it?", "cat", ["dog", ""], "an option is empty"),
        ("What is it?", "B. cat", ["dog"], "has a letter of its own"),
        ("What is it?", "Cat", ["dog", "cat."], "the options 'Cat' and 'cat.' are the same"),
        ("What is it?", "cat", ["dog", "C) cow"], "has a letter of its own"),
    ],
)
def test_options_that_would_not_be_read_back(question, right, wrong, reason):
    assert reason in fault_of(question, right, wrong)


def test_options_that_are_only_signs_differ():
    assert fault_of("Which sign?", "+", ["-", "×"]) is None
    assert fault_of("Who is Mr. T?", "a man", ["a dog"]) is None


def image_of(folder: Path, name: str = "a.png", side: int = 64) -> RequestImage:
    path = folder / name
    if not path.exists():
        Image.new("RGB", (80, 40), "red").save(path)
    return RequestImage.of(path, side)


def test_requests_that_ask_the_same_have_the_same_key_and_no_others(tmp_path):
    sample = UnderstandingSample(id="u", image_path="-", question="how many?", answer="two")
    base = CompletionSettings(model="m")

    def key(sample=sample, folder=tmp_path, refusals=(), side=64, **settings):
        chosen = base.model_copy(update=settings)
        return task_of(sample, [image_of(folder, side=side)], chosen).write(refusals).key

    (tmp_path / "elsewhere").mkdir()
    for same in (
        key(),
        key(folder=tmp_path / "elsewhere"),
        key(sample=sample.model_copy(update={"id": "other", "tag": "t"})),
        key(
            verifier="judge",
            concurrency=3,
            base_url="http://x/v1",
            timeout=9.0,
            structured="text",
            max_calls=3,
        ),
    ):
        assert same == key()
    others = [
        key(sample=sample.model_copy(update={"answer": "three"})),
        key(refusals=["no"]),
        key(refusals=["no", "no"]),
        key(side=32),
        key(model="other"),
        key(temperature=0.5),
        key(max_tokens=9),
    ]
    Image.new("RGB", (80, 40), "blue").save(tmp_path / "a.png")
    others.append(key())
    assert len({*others, same}) == len(others) + 1


STORED_KEYS = {
    "caption": "52ae6310e36d8d95c2db4eb5e58625ce",
    "caption again": "4bf3df8099108e9224d822fe0aec1758",
    "check caption": "d67bc77feacc19705012d9d180f901d2",
    "question": "14f1d26f600e28306dbce2a8012a09d2",
    "question again": "3d128937490b6af207cef9d5a575c13a",
    "check question": "9d2fce7c6c9da8ae8d38ee2c00a67a9e",
    "check question again": "fcb0e0e94e4b354f0a5913d5219ec08f",
}
"""Keys under which answers were stored by earlier versions: no prompt, schema or digest may change unnoticed."""


def test_stored_answers_are_found_again(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 4 2 255\n" + bytes(range(24)))
    chosen = CompletionSettings(model="m", verifier="v", temperature=0.5)
    image = RequestImage.of(tmp_path / "a.ppm", chosen.image_side)
    u = UnderstandingSample(id="u", image_path="a.ppm", question="how many cats?", answer="two")
    caption = task_of(u, [image], chosen)
    question = task_of(GenerationSample(id="g", image_path="a.ppm", prompt="a red car"), [image], chosen)
    asked = Half(question="which colour?", answer="red", options=("red", "blue", "green", "white"))
    requests = {
        "caption": caption.write([]),
        "caption again": caption.write(["no", "by its own check"]),
        "check caption": caption.verify(Half(prompt="two cats"), []),
        "question": question.write([]),
        "question again": question.write(["no"]),
        "check question": question.verify(asked, []),
        "check question again": question.verify(asked, ["x", "y"]),
    }
    assert {name: request.key for name, request in requests.items()} == STORED_KEYS


def test_verdicts_become_the_reasons_that_the_next_prompt_quotes(tmp_path):
    """The reasons are part of prompts, and so of stored keys."""
    image, chosen = image_of(tmp_path), CompletionSettings(model="m")
    u = UnderstandingSample(id="u", image_path="-", question="how many cats?", answer="two")
    said = {**VERDICT, "answer_from_caption": "three", "answer_agrees": False, "reason": "r"}
    said |= {"contradicts_picture": True, "invents": True}
    verdict = task_of(u, [image], chosen).read_verdict(Half(prompt="two cats"), {"text": json.dumps(said)})
    assert verdict.reason == (
        "the caption 'two cats' does not hold: it contradicts the picture; it names what the picture does not show; "
        "it leads to the answer 'three', not 'two' (r)"
    )
    g = GenerationSample(id="g", image_path="-", prompt="a red car")
    half = Half(question="which colour?", answer="red", options=("red", "blue", "green", "white"))
    said = {"letter_from_caption": "none", "letter_from_picture": "several", "reason": ""}
    said |= {"asks_what_caption_states": False, "contradicts": True}
    verdict = task_of(g, [image], chosen).read_verdict(half, {"text": json.dumps(said)})
    assert verdict.reason == (
        "the question 'which colour?' does not hold: the caption leads to 'none', not to 'red'; the picture leads to "
        "'several', not to 'red'; it asks for what the caption does not state; it contradicts the caption or the "
        "picture"
    )


def test_images_are_measured_by_their_header_and_refused_by_name(tmp_path):
    one = image_of(tmp_path)
    assert (one.width, one.height, one.tokens) == (64, 32, 3)
    assert one.load().size == (64, 32)
    (tmp_path / "none.png").write_bytes(b"")
    with pytest.raises(ImageError, match="is not a supported image"):
        image_of(tmp_path, "none.png")
    with pytest.raises(ImageError, match="is missing"):
        RequestImage.of(tmp_path / "gone.png", 64)
    (tmp_path / "vast.png").write_bytes(png_that_claims(20_000, 20_000))
    with pytest.raises(ImageError, match="too large"):
        image_of(tmp_path, "vast.png")
    Image.new("L", (20, 10)).save(tmp_path / "grey.bmp")
    assert image_of(tmp_path, "grey.bmp").encoded()[0] == "image/png"
    Image.new("RGB", (20, 10)).save(tmp_path / "plain.webp")
    mime, data = image_of(tmp_path, "plain.webp").encoded()
    assert (mime, data) == ("image/webp", (tmp_path / "plain.webp").read_bytes())


def test_text_with_braces_survives_the_templates(tmp_path):
    sample = GenerationSample(id="g", image_path="-", prompt="a {sign} of {0} and {{}}")
    text = task_of(sample, [image_of(tmp_path)], CompletionSettings(model="m", options=3)).write(["{x}"]).text
    assert "a {sign} of {0} and {{}}" in text
    assert "The 2 wrong options" in text
    assert text.endswith("1. {x}\nWrite one that is free of these faults.")
