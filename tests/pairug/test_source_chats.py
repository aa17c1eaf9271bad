"""Rows of other trainers: chats with and without a reply, instructions, verl, OpenAI's parts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_source_forms import orsta_row, png

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources import SampleReader
from pairuni.records import GenerationSample, UnderstandingSample


def read(folder: Path, row: dict[str, Any], query: str = "", kind: type = UnderstandingSample) -> Any:
    """The sample of one row, its problem, or the reasons why it is left out; and what is not kept."""
    (folder / "a.png").write_bytes(png(1))
    (folder / "u.jsonl").write_text(json.dumps(row))
    reading = SampleReader(f"{folder / 'u.jsonl'}{query}", kind, folder / "pictures")
    found = list(reading)
    return (found[0] if found else dict(reading.left_out)), dict(reading.not_kept)


USER = {"role": "user", "content": "<image>How many?"}
URI = "data:image/png;base64," + base64.b64encode(png(1)).decode()
ASKED = [{"type": "text", "text": "How many?"}]
SHAPES: dict[str, dict[str, Any]] = {
    "ms-swift GRPO": {"messages": [USER], "images": ["a.png"], "solution": "<answer> 3 </answer>"},
    "ms-swift GRPO with a reply": {
        "messages": [USER, {"role": "assistant", "content": "I think 4"}],
        "images": ["a.png"],
        "solution": "3",
    },
    "ms-swift query": {
        "query": "<image>How many?",
        "response": "3",
        "rejected_response": "4",
        "images": ["a.png"],
    },
    "ms-swift with history": {"query": "How many?", "response": "3", "history": [], "image": "a.png"},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "3"}],
        "images": ["a.png"],
    },
    "chat as JSON text": {
        "messages": json.dumps([USER, {"role": "assistant", "content": "3"}]),
        "image": "a.png",
    },
    "LLaMA-Factory": {"instruction": "<image>How many?", "input": "", "output": "3", "images": ["a.png"]},
    "TRL chat": {
        "prompt": [USER],
        "completion": [{"role": "assistant", "content": "3"}],
        "images": ["a.png"],
    },
    "TRL solution": {"prompt": [USER], "solution": "$\\boxed{3}$", "image": "a.png"},
    "TRL text": {"prompt": "How many?", "completion": "3", "images": ["a.png"]},
    "TRL preference": {
        "prompt": [USER],
        "chosen": [{"role": "assistant", "content": "3"}],
        "rejected": [{"role": "assistant", "content": "4"}],
        "image": "a.png",
    },
    "open-r1": {
        "image": "a.png",
        "problem": "How many?",
        "solution": "<think>It is 3.</think> <answer> 3 </answer>",
    },
    "EasyR1": {"images": ["a.png"], "problem": "<image>How many?", "answer": "3"},
    "MATH": {"image": "a.png", "problem": "How many?", "solution": "We count to three.", "answer": "3"},
    "OpenAI": {
        "messages": [
            {"role": "user", "content": [*ASKED, {"type": "image_url", "image_url": {"url": URI}}]},
            {"role": "assistant", "content": "3"},
        ]
    },
    "OpenAI responses": {
        "messages": [
            {"role": "user", "content": [{"type": "input_image", "image_url": URI}, *ASKED]},
            {"role": "assistant", "content": "3"},
        ]
    },
    "Qwen": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, *ASKED]},
            {"role": "assistant", "content": [{"type": "text", "text": "3"}]},
        ]
    },
    "marked parts": {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, *ASKED]},
            {"role": "assistant", "content": "3"},
        ],
        "images": ["a.png"],
    },
    "Anthropic": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"media_type": "image/png", "data": URI.partition(",")[2]}},
                    *ASKED,
                ],
            },
            {"role": "assistant", "content": "3"},
        ]
    },
    "verl": {
        "data_source": "geo3k",
        "prompt": [USER],
        "images": ["a.png"],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "3"},
        "extra_info": {"split": "train", "index": 0},
    },
    "verl with a picture in the chat": {
        "prompt": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, *ASKED]}],
        "reward_model": {"style": "rule", "ground_truth": 3},
    },
    "system message": {
        "messages": [{"role": "system", "content": "Think."}, USER, {"role": "assistant", "content": "3"}],
        "image": "a.png",
    },
    "two messages of the user": {
        "messages": [
            {"role": "user", "content": "<image>"},
            {"role": "user", "content": "How many?"},
            {"role": "assistant", "content": "3"},
        ],
        "image": "a.png",
    },
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
def test_every_shape_gives_question_answer_and_image(tmp_path, row):
    sample, _ = read(tmp_path, row)
    assert isinstance(sample, UnderstandingSample), str(sample)
    assert (sample.question, sample.answer) == ("How many?", "3")
    assert Path(sample.image_path).read_bytes() == png(1)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("ms-swift GRPO", "?question=messages.0.content&answer=solution"),
        ("ms-swift GRPO", "?answer=solution"),
        ("ms-swift GRPO", "?question=messages&answer=solution&image_path=images"),
        ("ms-swift query", "?question=query&answer=response"),
        ("TRL chat", "?question=prompt&answer=completion"),
        ("TRL chat", "?question=prompt.0.content&answer=completion.0.content"),
        ("LLaMA-Factory", "?question=instruction&answer=output"),
        ("sharegpt", "?question=conversations.0.value&answer=conversations.1.value"),
        ("verl", "?question=prompt.0.content&answer=reward_model.ground_truth"),
        ("marked parts", "?question=messages.0.content&answer=messages.1.content"),
    ],
)
def test_columns_may_be_named(tmp_path, name, query):
    sample, _ = read(tmp_path, SHAPES[name], query)
    assert isinstance(sample, UnderstandingSample), str(sample)
    assert (sample.question, sample.answer) == ("How many?", "3")


def test_parquet_of_messages(tmp_path):
    rows = [
        {"messages": [USER], "images": [{"bytes": png(1), "path": None}], "solution": "3"},
        {"messages": [USER], "images": [{"bytes": png(1), "path": None}], "solution": "<answer>4</answer>"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "u.parquet")
    samples = list(SampleReader(str(tmp_path / "u.parquet"), UnderstandingSample, tmp_path / "p"))
    assert [(one.question, one.answer) for one in samples] == [("How many?", "3"), ("How many?", "4")]
    verl = orsta_row(reward_model={"style": "rule", "ground_truth": "\\boxed{a} and \\boxed{b}"})
    pq.write_table(pa.Table.from_pylist([verl]), tmp_path / "v.parquet")
    (sample,) = SampleReader(str(tmp_path / "v.parquet"), UnderstandingSample, tmp_path / "p")
    assert sample.answer == "\\boxed{a} and \\boxed{b}", "two boxes are not one around all"


def test_what_of_a_chat_is_not_kept_is_counted(tmp_path):
    reply = {"role": "assistant", "content": "3"}
    told = [{"role": "system", "content": "Think."}, USER, reply, {"role": "user", "content": "Sure?"}, reply]
    sample, not_kept = read(tmp_path, {"messages": told, "image": "a.png"})
    assert (sample.question, sample.answer) == ("How many?", "3")
    assert not_kept == {"system messages": 1, "later turns of chats": 1}
    _, not_kept = read(
        tmp_path, {"messages": [{"role": "tool", "content": "x"}, USER, reply], "image": "a.png"}
    )
    assert not_kept == {"messages of other roles": 1}
    asked = {"instruction": "How", "input": "many?", "output": "3", "system": "Think.", "image": "a.png"}
    sample, not_kept = read(tmp_path, asked)
    assert (sample.question, not_kept) == ("How\nmany?", {"system messages": 1})


def test_rows_that_are_no_sample(tmp_path):
    reply = {"role": "assistant", "content": "3"}
    later = [USER, reply, {"role": "user", "content": "And now?"}]
    for row in (
        {"messages": later, "images": ["a.png"], "solution": "3"},
        {"query": "How many?", "response": "3", "history": [["a", "b"]], "image": "a.png"},
    ):
        assert read(tmp_path, row)[0] == {"a question after other turns": 1}
    assert read(tmp_path, {"messages": [USER, reply]})[0] == {"no image": 1}
    two = {"messages": [USER, reply], "images": ["a.png", "a.png"]}
    assert read(tmp_path, two)[0] == {"more than one image": 1}
    problem, _ = read(tmp_path, {"messages": [USER], "image": "a.png"})
    assert isinstance(problem, Problem)
    assert "has no question that is followed by a reply, and there is no column solution" in str(problem)
    problem, _ = read(tmp_path, {"messages": [reply], "image": "a.png"})
    assert "field messages: has no question that is followed by a reply" in str(problem)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [USER, {"role": "assistant", "content": "<image>A cat."}], "image": "a.png"}, "A cat."),
        ({"prompt": [{"role": "user", "content": "Draw a cat."}], "image": "a.png"}, "Draw a cat."),
        ({"query": "What is it?", "response": "A cat.", "image": "a.png"}, "A cat."),
        ({"prompt": "A cat.", "completion": "x", "image": "a.png"}, "A cat."),
        ({"caption": "<image>\nA cat.", "image": "a.png"}, "A cat."),
        ({"captions": ["A cat.", "Another."], "image": "a.png"}, "A cat."),
    ],
)
def test_prompts_of_generation_data(tmp_path, row, prompt):
    sample, _ = read(tmp_path, row, kind=GenerationSample)
    assert isinstance(sample, GenerationSample), str(sample)
    assert sample.prompt == prompt


@pytest.mark.parametrize(
    ("row", "kind", "field"),
    [
        ({"question": "Is <image> a cat?", "answer": "yes"}, UnderstandingSample, "question"),
        ({"question": "Is it <|User|>?", "answer": "yes"}, UnderstandingSample, "question"),
        (
            {"question": "Which?", "options": ["<image 1>", "<image 2>"], "answer": "A"},
            UnderstandingSample,
            "question",
        ),
        ({"prompt": "A <image_placeholder> cat"}, GenerationSample, "prompt"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Is <image> it?"},
                    {"role": "assistant", "content": "yes"},
                ]
            },
            UnderstandingSample,
            "question",
        ),
    ],
)
def test_marks_inside_a_text_are_a_problem_of_its_row(tmp_path, row, kind, field):
    problem, _ = read(tmp_path, {"image": "a.png", **row}, kind=kind)
    assert isinstance(problem, Problem)
    assert f"u.jsonl, line 1, field {field}: contains <" in str(problem)


COLUMNS = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "solution",
    "question",
    "answer",
    "options",
    "image",
)
COLUMNS += (
    "images",
    "reward_model",
    "instruction",
    "input",
    "output",
    "query",
    "history",
    "system",
    "A",
    "B",
    "id",
    "tag",
)
KEYS = st.sampled_from(
    ["role", "content", "from", "value", "type", "text", "image_url", "source", "label", "url", "x"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.sampled_from(["user", "assistant", "text", "a", "[1]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=6),
    st.sampled_from([UnderstandingSample, GenerationSample]),
)
def test_no_row_raises_anything_but_a_sentence(tmp_path_factory, row, kind):
    folder = tmp_path_factory.mktemp("rows")
    (folder / "u.json").write_text(json.dumps([row, row]))
    for query in ("", "?question=messages.0.content&answer=solution&prompt=messages"):
        reading = SampleReader(f"{folder / 'u.json'}{query}", kind, folder / "p")
        assert len(list(reading)) + sum(reading.left_out.values()) >= 2
