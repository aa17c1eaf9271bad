"""Replies of completion and judges: options with letters, replies that were cut off, text that looks like JSON.

What single replies mean is in tests/rewards/replies.tsv.
"""

from __future__ import annotations

import time

import pytest
from pydantic import Field

from pairuni.chat.replies import Reply, Unusable, read_reply
from pairuni.pairug.completion.options import without_letters


class Said(Reply):
    """A field of each type that replies have."""

    text: str
    truth: bool = True
    texts: list[str] = Field(default_factory=list)
    note: str = ""


GOOD = '{"text": "red", "truth": false, "texts": ["a", "b"]}'

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


@pytest.mark.parametrize(("right", "wrong", "plain", "others"), OPTIONS)
def test_options_as_they_are_written(right: str, wrong: list[str], plain: str, others: list[str]) -> None:
    assert without_letters(right, wrong) == (plain, others)


def test_a_whole_draft_before_a_reply_that_was_cut_off_is_no_reply() -> None:
    with pytest.raises(Unusable, match="was cut off"):
        read_reply({"text": GOOD + ' No: {"text": "bl', "finish": "length"}, Said)
    assert read_reply({"text": GOOD + " That is", "finish": "length"}, Said).text == "red"


@pytest.mark.parametrize(
    ("text", "times"),
    [
        *(("{", 20_000), ('{"a": [', 2_500), ("{“", 2_500), ('{"', 2_500)),
        *(("{/*", 20_000), ("{'a", 2_500), ("{//", 2_500)),
    ],
)
def test_text_that_looks_like_json_without_end_is_read_in_good_time(text: str, times: int) -> None:
    before = time.monotonic()
    with pytest.raises(Unusable):
        read_reply({"text": text * times, "finish": "stop"}, Said)
    assert time.monotonic() - before < 30
