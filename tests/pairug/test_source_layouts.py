"""Rows of other trainers and public data sets: Orsta, chats with and without a reply, instructions, OpenAI's parts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairuni.pairug.sources.inputs import FIELDS
from pairuni.records import GenerationSample, UnderstandingSample
from source_data import Found, lines, orsta_row, parquet, png, read, understood


def read_row(folder: Path, row: dict[str, Any], query: str = "", kind: type = UnderstandingSample) -> Found:
    (folder / "a.png").write_bytes(png())
    return read(f"{lines(folder / 'u.jsonl', row)}{query}", kind, folder / "kept")


URI = "data:image/png;base64," + base64.b64encode(png()).decode()
TEXT = [{"type": "text", "text": "How many?"}]


def user(content: object = "<image>How many?") -> dict[str, object]:
    return {"role": "user", "content": content}


def reply(content: object = "3") -> dict[str, object]:
    return {"role": "assistant", "content": content}


ANTHROPIC = {"type": "image", "source": {"media_type": "image/png", "data": URI.partition(",")[2]}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "ms-swift GRPO": {"messages": [user()], "images": ["a.png"], "solution": "<answer> 3 </answer>"},
    "ms-swift GRPO with a reply": {"messages": [user(), reply("4?")], "images": ["a.png"], "solution": "3"},
    "ms-swift": {"query": "<image>How many?", "response": "3", "rejected_response": "4", "images": ["a.png"]},
    "ms-swift with history": {"query": "How many?", "response": "3", "history": [], "image": "a.png"},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "3"}],
        "images": ["a.png"],
    },
    "chat as JSON text": {"messages": json.dumps([user(), reply()]), "image": "a.png"},
    "LLaMA-Factory": {"instruction": "<image>How many?", "input": "", "output": "3", "images": ["a.png"]},
    "TRL chat": {"prompt": [user()], "completion": [reply()], "images": ["a.png"]},
    "TRL solution": {"prompt": [user()], "solution": "$\\boxed{3}$", "image": "a.png"},
    "TRL text": {"prompt": "How many?", "completion": "3", "images": ["a.png"]},
    "TRL preference": {"prompt": [user()], "chosen": [reply()], "rejected": [reply("4")], "image": "a.png"},
    "open-r1": {
        "image": "a.png",
        "problem": "How many?",
        "solution": "<think>3.</think> <answer> 3 </answer>",
    },
    "EasyR1": {"images": ["a.png"], "problem": "<image>How many?", "answer": "3"},
    "MATH": {"image": "a.png", "problem": "How many?", "solution": "We count to three.", "answer": "3"},
    "OpenAI": {"messages": [user([*TEXT, {"type": "image_url", "image_url": {"url": URI}}]), reply()]},
    "OpenAI responses": {"messages": [user([{"type": "input_image", "image_url": URI}, *TEXT]), reply()]},
    "Qwen": {
        "messages": [
            user([{"type": "image", "image": "a.png"}, *TEXT]),
            reply([{"type": "text", "text": "3"}]),
        ]
    },
    "Qwen-VL": {"conversations": [user("Picture 1: <img>a.png</img>\nHow many?"), reply()]},
    "marked parts": {"messages": [user([{"type": "image"}, *TEXT]), reply()], "images": ["a.png"]},
    "Anthropic": {"messages": [user([ANTHROPIC, *TEXT]), reply()]},
    "verl": {
        "data_source": "geo3k",
        "prompt": [user()],
        "images": ["a.png"],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "3"},
        "extra_info": {"split": "train", "index": 0},
    },
    "verl with an image in the chat": {
        "prompt": [user([{"type": "image", "image": "a.png"}, *TEXT])],
        "reward_model": {"style": "rule", "ground_truth": 3},
    },
    "system message": {
        "messages": [{"role": "system", "content": "Think."}, user(), reply()],
        "image": "a.png",
    },
    "two user messages": {"messages": [user("<image>"), user("How many?"), reply()], "image": "a.png"},
    "later turns": {"messages": [user(), reply(), user("Sure?"), reply("Yes.")], "image": "a.png"},
}


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_question_answer_and_image(tmp_path, row):
    sample = read_row(tmp_path, row).sample
    assert (sample.question, sample.answer) == ("How many?", "3")
    assert Path(sample.image_path).read_bytes() == png()


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("ms-swift GRPO", "?question=messages.0.content&answer=solution"),
        ("ms-swift GRPO", "?answer=solution"),
        ("ms-swift GRPO", "?question=messages&answer=solution&image_path=images"),
        ("ms-swift", "?question=query&answer=response"),
        ("TRL chat", "?question=prompt&answer=completion"),
        ("TRL chat", "?question=prompt.0.content&answer=completion.0.content"),
        ("LLaMA-Factory", "?question=instruction&answer=output"),
        ("sharegpt", "?question=conversations.0.value&answer=conversations.1.value"),
        ("verl", "?question=prompt.0.content&answer=reward_model.ground_truth"),
        ("marked parts", "?question=messages.0.content&answer=messages.1.content"),
    ],
)
def test_columns_may_be_named(tmp_path, name, query):
    sample = read_row(tmp_path, LAYOUTS[name], query).sample
    assert (sample.question, sample.answer) == ("How many?", "3")


def test_orsta_without_detection_and_grounding(tmp_path):
    image = {"bytes": png(), "path": None}
    path = parquet(
        tmp_path / "train_counting_clevr_4.parquet",
        orsta_row(),
        orsta_row(ability="Detection"),
        orsta_row(ability="grounding"),
        orsta_row(reward_model={"answer": "A", "ground_truth": "A", "verifier": "detection"}),
        orsta_row(images=[image, image], extra_info={"id": "8"}),
        orsta_row(images=[]),
    )
    found = understood(path, tmp_path / "p")
    sample, several = found.samples
    assert (len(sample.image_paths), len(several.image_paths)) == (1, 2)
    assert (sample.question, sample.answer, sample.tag) == ("How many?", "2", "Counting")
    assert (sample.data_source, sample.extra_info) == ("CLEVR", {"id": "7", "image_path": "x.png"})
    assert not {"prompt", "reward_model"} & sample.model_dump().keys()
    assert Path(sample.image_path).read_bytes() == png()
    assert found.left_out == {"detection": 2, "grounding": 1, "no image": 1}
    assert [one.id for one in understood(f"{path}?id=extra_info.id", tmp_path / "p").samples] == ["7", "8"]
    found = understood(f"{path}?leave_out=", tmp_path / "p")
    assert [one.tag for one in found.samples] == [
        "Counting",
        "Detection",
        "grounding",
        "Counting",
        "Counting",
    ]
    assert "detection" not in found.left_out


def test_parquet_of_messages(tmp_path):
    rows = [
        {"messages": [user()], "images": [{"bytes": png(), "path": None}], "solution": solution}
        for solution in ("3", "<answer>4</answer>")
    ]
    assert understood(parquet(tmp_path / "u.parquet", *rows), tmp_path / "p").answers == ["3", "4"]
    boxes = "\\boxed{a} and \\boxed{b}"
    path = parquet(tmp_path / "v.parquet", orsta_row(reward_model={"style": "rule", "ground_truth": boxes}))
    assert understood(path, tmp_path / "p").sample.answer == boxes, "two boxes are not one around all"


@pytest.mark.parametrize(
    ("row", "question", "not_kept"),
    [
        (
            {"messages": [{"role": "system", "content": "x"}, user(), reply(), user("Sure?"), reply()]},
            "How many?",
            ["system messages", "later turns of chats"],
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}, user(), reply()]},
            "How many?",
            ["messages of other roles"],
        ),
        (
            {"instruction": "How", "input": "many?", "output": "3", "system": "Think."},
            "How\nmany?",
            ["system messages"],
        ),
    ],
)
def test_content_of_a_chat_that_is_not_kept_is_counted(tmp_path, row, question, not_kept):
    found = read_row(tmp_path, {**row, "image": "a.png"})
    assert (found.sample.question, found.not_kept) == (question, dict.fromkeys(not_kept, 1))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"messages": [user(), reply(), user("And now?")], "images": ["a.png"], "solution": "3"},
            "a question after other turns",
        ),
        (
            {"query": "How many?", "response": "3", "history": [["a", "b"]], "image": "a.png"},
            "a question after other turns",
        ),
        ({"messages": [user(), reply()]}, "no image"),
        ({"messages": [user(), reply()], "images": []}, "no image"),
        (
            {
                "messages": [user("<image>Find <ref-object>"), reply("<bbox>")],
                "images": ["a.png"],
                "objects": {},
            },
            "marks of objects and boxes",
        ),
    ],
    ids=range(5),
)
def test_rows_that_are_left_out(tmp_path, row, reason):
    assert read_row(tmp_path, row) == Found([], [], {reason: 1}, {})


@pytest.mark.parametrize(
    ("messages", "fact"),
    [
        ([user()], "is followed by a reply, and there is no column solution"),
        ([reply()], "field messages: has no question"),
    ],
)
def test_chats_without_question_or_reply_are_problems(tmp_path, messages, fact):
    assert fact in read_row(tmp_path, {"messages": messages, "image": "a.png"}).problem


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [user(), reply("<image>A cat.")]}, "A cat."),
        ({"prompt": [user("Draw a cat.")]}, "Draw a cat."),
        ({"query": "What is it?", "response": "A cat."}, "A cat."),
        ({"prompt": "A cat.", "completion": "x"}, "A cat."),
        ({"caption": "<image>\nA cat."}, "A cat."),
        ({"captions": ["A cat.", "Another."]}, "A cat."),
    ],
)
def test_prompts_of_generation_data(tmp_path, row, prompt):
    assert read_row(tmp_path, {**row, "image": "a.png"}, kind=GenerationSample).sample.prompt == prompt


@pytest.mark.parametrize(
    ("row", "kind", "field"),
    [
        ({"question": "Is <image> a cat?", "answer": "yes"}, UnderstandingSample, "question"),
        ({"question": "Is it <|User|>?", "answer": "yes"}, UnderstandingSample, "question"),
        (
            {"question": "?", "options": ["<image 1>", "<image 2>"], "answer": "A"},
            UnderstandingSample,
            "question",
        ),
        ({"prompt": "A <image_placeholder> cat"}, GenerationSample, "prompt"),
        ({"messages": [user("Is <image> it?"), reply()]}, UnderstandingSample, "question"),
    ],
)
def test_placeholders_inside_a_text_are_a_problem(tmp_path, row, kind, field):
    found = read_row(tmp_path, {"image": "a.png", **row}, kind=kind)
    assert f"u.jsonl, line 1, field {field}: contains <" in found.problem


COLUMNS = [
    *FIELDS,
    *("image", "images", "captions", "A", "B", "x", "messages", "conversations", "reward_model", "ability"),
    *("completion", "solution", "instruction", "input", "output", "query", "history", "system"),
]
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "type", "text", "image_url", "source", "label", "url", "x"]
)
WORDS = st.sampled_from(["user", "assistant", "text", "a", "[1]"]) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-2, 3) | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=6),
    st.sampled_from([UnderstandingSample, GenerationSample]),
)
def test_any_row_is_a_sample_or_left_out_or_a_problem(tmp_path_factory, row, kind):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "u.json").write_text(json.dumps([row]), encoding="utf-8")
    for query in ("", "?question=messages.0.content&answer=solution&prompt=messages"):
        found = read(f"{folder / 'u.json'}{query}", kind, folder / "p")
        assert bool(found.samples) + bool(found.problems) + bool(found.left_out) == 1
        assert all(problem.startswith(f"{folder / 'u.json'}, entry 1") for problem in found.problems)
        for sample in found.samples:
            json.dumps(sample.model_dump(), allow_nan=False).encode()
