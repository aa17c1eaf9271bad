"""What is left of a reply after its reasoning: the marks of many models, and replies that are hard on a reader."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairuni.chat.reasoning import without_reasoning

PAIRS = [
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<analysis>", "</analysis>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ('<think type="plan">', "</think>"),
    ("<think>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[unused16]", "[unused17]"),
]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_marks_of_many_models(opening: str, closing: str) -> None:
    assert without_reasoning(f"{opening}3 and 4{closing}\n7") == "\n7"
    assert without_reasoning(f"3 and 4{closing}\n7") == "\n7"
    assert without_reasoning(f"3{closing} no: 4{closing}7") == "7"
    assert without_reasoning(f"{opening}3 and 4, so <answer>7</answer>") == ""
    assert without_reasoning(f"{opening}say {opening} first{closing}7") == "7"
    assert without_reasoning(f"7 {opening}check{closing}") == "7 "
    assert without_reasoning(f"7 {opening}check") == ""
    assert without_reasoning(f"{opening}{closing}{opening}3{closing}7") == "7"
    assert without_reasoning(f"{opening}{closing}") == ""


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        ("<think>use <reasoning></reasoning>, then <answer>7</answer>", ""),
        ("<think>a [/THINK] b</think>7", "7"),
        ("<think>a</think>7</think>8", "8"),
        ("7", "7"),
        ("", ""),
        ("a < think > b", "a < think > b"),
        ("I think: 7", "I think: 7"),
        ("<thinker>7</thinker>", "<thinker>7</thinker>"),
        ("<think>a</think><response>7</response>", "\n7\n"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>7<|END_RESPONSE|>", "\n7\n"),
        ("<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>7<|end_of_solution|>", "\n\n7\n"),
        ("<|channel>thought\na<channel|>7<turn|>", "7"),
        ("[unused16]a[unused17]7[unused10]", "7"),
        ("7<|im_end|>\n<|endoftext|>", "7"),
        ("Here is my thought process: 3 and 4. Here is my response: 7", " 7"),
        ("Here's my thought process: 3 and 4. Here's my response: 7", " 7"),
        ("Here is my thought process: 3 and 4.", ""),
        ("Here is my response: 7", "Here is my response: 7"),
    ],
)
def test_other_forms(reply: str, rest: str) -> None:
    assert without_reasoning(reply) == rest


ANALYSIS = "<|channel|>analysis<|message|>3 and 4, maybe 8<|end|>"
START = "<|start|>assistant"


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        (f"{ANALYSIS}{START}<|channel|>final<|message|>7<|return|>", "7"),
        (f"{START}{ANALYSIS}{START}<|channel|>final<|message|>7", "7"),
        (f"{ANALYSIS}{START}<|channel|>final <|constrain|>json<|message|>{{}}<|end|>", "{}"),
        (
            f"{ANALYSIS}{START}<|channel|>commentary<|message|>Now<|end|>{START}<|channel|>final<|message|>7",
            "7",
        ),
        (f"{ANALYSIS}{START}<|channel|>commentary to=functions.x<|message|>7<|call|>", ""),
        (f"{ANALYSIS}{START}<|channel|>final<|message|>", ""),
        (ANALYSIS, ""),
        ("<|channel|>analysis<|message|>so it is 7", ""),
        ("<|channel|>analysis<|message|>the <think> tag<|end|><|channel|>final<|message|>7", "7"),
        ("<think>write <|channel|>final<|message|>8</think>7", "7"),
        ("<think>write <|channel|>final<|message|>8", ""),
        (f"analysis<|message|>3 and 4<|end|>{START}<|channel|>final<|message|>7<|return|>", "7"),
        ("final<|message|>7<|return|>", "7"),
        ("analysisCount: 3 and 4.assistantfinal7", "7"),
        ("analysis of the image: 7", "analysis of the image: 7"),
    ],
)
def test_channels(reply: str, rest: str) -> None:
    assert without_reasoning(reply) == rest


PIECES = [mark for pair in PAIRS for mark in pair] + [
    "<|channel|>", "<|message|>", "<|end|>", "final", "analysis", "assistantfinal", " ", "\n", "7", "<", "</", ">",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_nothing_in_front_of_the_last_closing_mark_becomes_the_answer(noise: str) -> None:
    assert "8" not in without_reasoning(f"{noise}8</think>7")
    assert isinstance(without_reasoning(noise), str)


def test_time_grows_with_the_length_alone() -> None:
    for piece in [*PIECES, "<think " + "x" * 60, "< think", "<think>a", "<|end|> ", " \n"]:
        reply = piece * (40_000 // len(piece))
        began = time.monotonic()
        without_reasoning(reply)
        without_reasoning(reply + "x")
        assert time.monotonic() - began < 20, piece
