"""What replies mean, one line each: add a line to ACCEPTED, REFUSED, LETTERS, OPTIONS or LATEX to hold another form.

Each line is a reply as a model wrote it; backslashes are those of the reply (raw strings).
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from pydantic import Field

from pairuni.chat.replies import Reply, Unusable, read_reply
from pairuni.pairug.options import chosen_option, without_letters
from pairuni.rewards.judge import Mark


class Said(Reply):
    """A field of each type that replies have."""

    text: str
    truth: bool = True
    texts: list[str] = Field(default_factory=list)
    note: str = ""


GOOD = '{"text": "red", "truth": false, "texts": ["a", "b"]}'
WANTED = {"text": "red", "truth": False, "texts": ["a", "b"]}

ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    # where the object stands
    (GOOD, WANTED),
    (f"```json\n{GOOD}\n```", WANTED),
    (f"Here it is:\n{GOOD}\nAnything else {{}}?", WANTED),
    (f"<answer>{GOOD}</answer>", WANTED),
    (f"[{GOOD}]", WANTED),
    (f'{{"reply": {GOOD}}}', WANTED),
    (f'{{"name": "Said", "arguments": {GOOD}}}', WANTED),
    (f'{{"name": "Said", "arguments": {json.dumps(GOOD)}}}', WANTED),
    (f'[{{"reply": [{GOOD}]}}]', WANTED),
    # the last one that has the fields; what stands inside of another is none
    ('{"text": "blue"} Wait: ' + GOOD, WANTED),
    (GOOD + ' and so {"left": 1}', WANTED),
    (GOOD + " {not json", WANTED),
    ('{"text": "red", "truth": false, "texts": ["a", "b"], "draft": {"text": "blue"}}', WANTED),
    ('{"text": "<what you see>", "truth": true} ' + GOOD, WANTED),
    ('{"type": "object", "properties": {"text": {"type": "string"}}} ' + GOOD, WANTED),
    (GOOD + ' {"type": "object", "properties": {"text": {"type": "string"}}}', WANTED),
    # forms of JSON
    ('{"text": "red", // the colour\n "truth": false, /* no\n */ "texts": ["a", "b",],}', WANTED),
    ("{'text': 'red', 'truth': False, 'texts': ['a', 'b']}", WANTED),
    ("{“text”: “red”, “truth”: false, “texts”: [“a”, “b”]}", WANTED),
    ('{text: "red", truth: false, texts: ["a", "b"]} # done', WANTED),
    ('{"Text": "red", "TRUTH": false, "te-xts": ["a", "b"], "more": null}', WANTED),
    ('{"text": "a sign that says "STOP" in red"}', {"text": 'a sign that says "STOP" in red'}),
    ("{'text': 'it's a dog's bowl'}", {"text": "it's a dog's bowl"}),
    ('{"text": "see http://a.b//c # 1"}', {"text": "see http://a.b//c # 1"}),
    ('{"text": "one\ntwo\tthree"}', {"text": "one\ntwo\tthree"}),
    ('{"text": "caf\\u00e9 \\ud83d\\ude00 \\ud83d"}', {"text": "café 😀 \ufffd"}),
    # numbers and truths where texts are asked for
    ('{"text": 3, "texts": [1, 2.50, true]}', {"text": "3", "texts": ["1", "2.50", "true"]}),
    ('{"text": 1e400}', {"text": "1e400"}),
    ('{"text": true}', {"text": "true"}),
    ('{"text": "x", "texts": {"A": "a", "B": 2}}', {"texts": ["a", "2"]}),
    ('{"text": "x", "texts": "a; b"}', {"texts": ["a", "b"]}),
    # truths
    *[
        (f'{{"text": "x", "truth": {said}}}', {"truth": False})
        for said in ("false", "0", "0.0", '"no"', '"No."', '"**No**"', '"False"', '"no, it has two"', "False")
    ],
    *[
        (f'{{"text": "x", "truth": {said}}}', {"truth": True})
        for said in ("true", "1", '"Yes"', '"TRUE"', '"yes (both do)"', '"Yes - both"', '" yes "')
    ],
    # lines
    ("Text: red\nTruth: no.\nTexts: a; b", WANTED),
    ("**Text:** $\\frac{1}{2}$\n- truth = No\n- texts: a; b", {**WANTED, "text": "$\\frac{1}{2}$"}),
    # reasoning
    (f'Maybe {{"text": "blue"}}?</think>{GOOD}', WANTED),
]

REFUSED = [
    ("", "the reply was empty"),
    ("It is red.", "is not whole JSON"),
    ("[1, 2]", "is not whole JSON"),
    ('{"text": "red", "truth"', "is not whole JSON"),
    ('{\n"text": "red",\n"truth": false,\n"texts": ["a"', "is not whole JSON"),
    ('{"truth": true}', "text is missing"),
    ('{"text": null}', "text is wrong"),
    ('{"text": ["red"]}', "text is wrong"),
    ('{"text": "x", "truth": "maybe"}', "truth is wrong"),
    ('{"text": "x", "truth": "true or false"}', "truth is wrong"),
    ('{"text": "x", "truth": "not sure"}', "truth is wrong"),
    ('{"text": "x", "truth": 2}', "truth is wrong"),
    ('{"text": "x", "truth": true or false}', "is not whole JSON"),
    ('{"text": "x", "texts": ["a", ...]}', "is not whole JSON"),
    ('{"text": "..."}', "repeats the form"),
    ('{"text": "<the colour>"}', "repeats the form"),
    ('{"type": "object", "properties": {"text": {"type": "string"}}}', "text is"),
    ('{"first": {"text": "red"}, "second": {"text": "blue"}}', "text is missing"),
    ('[{"text": "red"}, {"text": "blue"}]', "is not whole JSON"),
    ('{"text": "x" "truth": true}', "is not whole JSON"),
]

LATEX = [
    (r"the angle \theta", r"the angle \theta"),
    (r"\\theta", r"\theta"),
    (r"$\frac{1}{2} \times \nu$", r"$\frac{1}{2} \times \nu$"),
    (r"\beta and \rho", r"\beta and \rho"),
    (r"\left( x \right)", r"\left( x \right)"),
    (r"\underline{x} \upsilon", r"\underline{x} \upsilon"),
    (r"\nabla f \neq 0", r"\nabla f \neq 0"),
    (r"a\neq b", r"a\neq b"),
    (r"\nu = 3", r"\nu = 3"),
    (r"3\text{ cm}", r"3\text{ cm}"),
    (r"\tan x, x \to 0, a \ne b", r"\tan x, x \to 0, a \ne b"),
    (r"$a\ne b$", r"$a\ne b$"),
    (r"$a\ne0$", r"$a\ne0$"),
    (r"\rightarrow\rangle", r"\rightarrow\rangle"),
    (r"\(x\) \[y\] 5\% a\_b \alpha \{c\} \sqrt{2}", r"\(x\) \[y\] 5\% a\_b \alpha \{c\} \sqrt{2}"),
    (r"line one\nnext", "line one\nnext"),
    (r"line one\nNext", "line one\nNext"),
    (r"one\n\ntwo\n3\n- four", "one\n\ntwo\n3\n- four"),
    (r"name\tage\ttown", "name\tage\ttown"),
    (r"one\r\ntwo", "one\r\ntwo"),
    (r"uno\ne due", "uno\ne due"),
    (r"col\tan apple", "col\tan apple"),
    (r"say \"hi\" \/ it\'s", 'say "hi" / it\'s'),
    (r"caf\u00e9", "café"),
]

LETTERS = [
    ("A", "red"),
    ("a", "red"),
    ("A.", "red"),
    ("(a)", "red"),
    ("[B]", "dark blue"),
    ("**A**", "red"),
    ("`A`", "red"),
    ('"A"', "red"),
    ("Ａ", "red"),
    ("Option A", "red"),
    ("option b.", "dark blue"),
    ("Answer: B", "dark blue"),
    ("The correct answer is B", "dark blue"),
    ("The answer is option (C).", "3"),
    ("A. red", "red"),
    ("A) Red.", "red"),
    ("**A.** red", "red"),
    ("A: red", "red"),
    ("A - red", "red"),
    ("B (dark blue)", "dark blue"),
    ("dark blue (B)", "dark blue"),
    ("Dark-Blue", "dark blue"),
    ("RED!", "red"),
    ("3", "3"),
    ("C", "3"),
    ("d", "a cat"),
    ("a cat", "a cat"),
    ("none", None),
    ("several", None),
    ("", None),
    ("A or B", None),
    ("A, B", None),
    ("A and B", None),
    ("AB", None),
    ("A. dark blue", None),
    ("dark blue (A)", None),
    ("E", None),
    ("green", None),
    ("Both A and B", None),
    ("not A", None),
]

OPTIONS = [
    ("red", ["blue", "green"], "red", ["blue", "green"]),
    ("B. red", ["A. blue", "C. green"], "red", ["blue", "green"]),
    ("(b) red", ["(a) blue", "(c) green"], "red", ["blue", "green"]),
    ("Red", ["red.", "blue", "green"], "Red", ["blue", "green"]),
    ("B", ["A. blue", "B. red", "C. green"], "red", ["blue", "green"]),
    ("red", ["A. blue", "B. Red", "C. green"], "red", ["blue", "green"]),
    ("B. red", ["blue", "green"], "B. red", ["blue", "green"]),
    ("red", ["A. blue", "green"], "red", ["A. blue", "green"]),
    ("B. red", ["A. blue", "B. green"], "B. red", ["A. blue", "B. green"]),
    ("+", ["-", "×"], "+", ["-", "×"]),
]

SCORES: list[tuple[str, float | None]] = [
    ("7", 7.0),
    ("7.5", 7.5),
    ('"7"', 7.0),
    ('"7,5"', 7.5),
    ('"**7**"', 7.0),
    ('"7/10"', 7.0),
    ("7/10", 7.0),
    ('"7 out of 10"', 7.0),
    ('"7 points."', 7.0),
    ('"7/5"', None),
    ("7/5", None),
    ('"1,000"', None),
    ('"seven"', None),
    ("true", None),
    ("null", None),
    ('{"type": "number"}', None),
]


@pytest.mark.parametrize(("text", "values"), ACCEPTED)
def test_replies_that_are_taken(text: str, values: dict[str, Any]) -> None:
    reply = read_reply({"text": text, "finish": "stop"}, Said)
    assert {name: getattr(reply, name) for name in values} == values


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_replies_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        read_reply({"text": text, "finish": "stop"}, Said)


@pytest.mark.parametrize(("written", "meant"), LATEX)
def test_latex_and_escapes(written: str, meant: str) -> None:
    reply = read_reply({"text": f'{{"text": "{written}", "truth": true}}', "finish": "stop"}, Said)
    assert reply.text == meant


@pytest.mark.parametrize(("said", "option"), LETTERS)
def test_letters_and_words_of_options(said: str, option: str | None) -> None:
    assert chosen_option(said, ["red", "dark blue", "3", "a cat"]) == option


@pytest.mark.parametrize(("right", "wrong", "plain", "others"), OPTIONS)
def test_options_as_they_are_written(right: str, wrong: list[str], plain: str, others: list[str]) -> None:
    assert without_letters(right, wrong) == (plain, others)


@pytest.mark.parametrize(("said", "score"), SCORES)
def test_marks_of_a_judge(said: str, score: float | None) -> None:
    answer = {"text": f'{{"reason": "so", "score": {said}}}', "finish": "stop"}
    if score is not None:
        assert read_reply(answer, Mark, {"most": 10.0}).score == score
        return
    with pytest.raises(Unusable, match="score is wrong"):
        read_reply(answer, Mark, {"most": 10.0})


def test_a_whole_draft_before_a_reply_that_was_cut_off_is_no_reply() -> None:
    with pytest.raises(Unusable, match="was cut off"):
        read_reply({"text": GOOD + ' No: {"text": "bl', "finish": "length"}, Said)
    assert read_reply({"text": GOOD + " That is", "finish": "length"}, Said).text == "red"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 20_000,
        '{"a": [' * 5_000,
        "{“" * 5_000,
        '{"' * 5_000,
        "{/*" * 20_000,
        "{'a" * 5_000,
        "{//" * 5_000,
    ],
)
def test_text_that_looks_like_json_without_end_is_read_in_good_time(text: str) -> None:
    before = time.monotonic()
    with pytest.raises(Unusable):
        read_reply({"text": text, "finish": "stop"}, Said)
    assert time.monotonic() - before < 30
