"""Options in the forms of public data sets, and which of them an answer names: right, or refused with its row."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources import SampleReader
from pairuni.pairug.sources.choices import BadOptions, choices_of, parsed
from pairuni.pairug.sources.inputs import parse_input
from pairuni.pairug.sources.values import Unreadable
from pairuni.records import UnderstandingSample

END = " Answer with the options letter from the given choices directly."
RED_BLUE = "Which? A. red B. blue" + END


def read(given: object) -> tuple[list[tuple[str, str]], list[str]]:
    """(question, answer) of each sample, and the problems."""
    every = list(SampleReader(str(given), UnderstandingSample))
    samples = [(one.question, one.answer) for one in every if not isinstance(one, Problem)]
    return samples, [str(one) for one in every if isinstance(one, Problem)]


def lines(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "u.jsonl"
    path.write_text(
        "".join(json.dumps({"image": "a.png", "question": "Which?", **row}) + "\n" for row in rows)
    )
    return path


FORMS = {
    "list": ["red", "blue"],
    "object by letter": {"A": "red", "B": "blue"},
    "object by small letter": {"a": "red", "b": "blue"},
    "object in another order": {"B": "blue", "A": "red"},
    "object by named letter": {"option_a": "red", "option_b": "blue"},
    "object with absent letters": {"A": "red", "B": "blue", "C": None, "D": None},
    "object by number": {"1": "red", "2": "blue"},
    "Python's list": "['red', 'blue']",
    "Python's tuple": "('red', 'blue')",
    "Python's object": "{'A': 'red', 'B': 'blue'}",
    "Python's list with nan": "['red', 'blue', nan]",
    "numpy's list": "['red' 'blue']",
    "numpy's list on lines": "['red'\n 'blue']",
    "JSON's list": '["red", "blue"]',
    "JSON's object": '{"A": "red", "B": "blue", "C": null}',
    "label and text": [{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}],
    "key and value": [{"key": "A", "value": "red"}, {"key": "B", "value": "blue"}],
    "id and text": [{"id": "A", "text": "red"}, {"id": "B", "text": "blue"}],
    "texts alone": [{"text": "red"}, {"text": "blue"}],
    "an object each": [{"A": "red"}, {"B": "blue"}],
    "two lists": {"label": ["A", "B"], "text": ["red", "blue"]},
    "pairs": [["A", "red"], ["B", "blue"]],
    "with letters": ["A. red", "B. blue"],
    "with letters in brackets": ["(A) red", "(B) blue"],
    "with small letters": ["a) red", "b) blue"],
    "with full-width letters": ["Ａ．red", "Ｂ．blue"],
    "with Chinese marks": ["A、red", "B、blue"],
    "with numbers": ["1. red", "2. blue"],
    "with letters twice": {"A": "A. red", "B": "B. blue"},
    "with nulls behind": ["red", "blue", None, None],
    "lettered text": "A. red B. blue",
    "lettered lines": "(A) red\n(B) blue\n",
}


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("answer", ["blue", "Blue."])
def test_every_form_of_options_is_read(tmp_path, options, answer):
    assert read(lines(tmp_path, {"options": options, "answer": answer})) == ([(RED_BLUE, "B")], [])


LETTERS = [
    "B",
    "b",
    "(B)",
    "B.",
    "B)",
    "B:",
    "B. blue",
    "(B) blue",
    "B: Blue",
    "Option B",
    "option (b)",
    "Ｂ",
    "[B]",
]
LETTERS += ["The answer is B.", "Answer: B", "**B**", "<answer>B</answer>", "\\boxed{B}", " B\n"]


@pytest.mark.parametrize("answer", LETTERS)
def test_every_writing_of_a_letter_is_read(tmp_path, answer):
    path = lines(tmp_path, {"options": ["red", "blue"], "answer": answer})
    assert read(path) == ([(RED_BLUE, "B")], [])
    assert read(f"{path}?answers=letter") == ([(RED_BLUE, "B")], [])


@pytest.mark.parametrize(
    "answer",
    ["C", "AB", "A or B", "A, B", "B. red", "Option C", "2.5", "greenish", "B blue red", "the blue one"],
)
def test_an_answer_that_names_no_option_is_a_problem(tmp_path, answer):
    samples, (problem,) = read(lines(tmp_path, {"options": ["red", "blue"], "answer": answer}))
    assert not samples
    assert f"line 1, field options: {answer!r} is none of the options 'red', 'blue'" in problem


@pytest.mark.parametrize(
    "options",
    [
        *(3, True, "red", "red, blue", "red blue", "yes/no", {"first": "red", "second": "blue"}),
        *(
            [["red", "blue"]],
            [{"text": "red"}, "blue"],
            [{"x": "red", "y": "blue"}],
            {"A": ["red"], "B": ["blue"]},
        ),
        *(
            '"red"',
            "[1, 2",
            "{'red', 'blue'}",
            "__import__('os').getcwd()",
            "[x for x in 'ab']",
            "f['a']",
            "[1 2]",
        ),
        *({"A": "red", "1": "blue"}, [{"label": "A", "text": "red"}, {"label": "A", "text": "blue"}]),
        *([float("inf"), 1], ["red", ["blue"]], "array(['red', 'blue'], dtype=object)"),
    ],
    ids=str,
)
def test_any_other_value_is_a_problem_of_its_row(tmp_path, options):
    (tmp_path / "u.json").write_text(
        json.dumps([{"image": "a.png", "question": "Which?", "options": options, "answer": "B"}])
    )
    samples, problems = read(tmp_path / "u.json")
    assert (samples, len(problems)) == ([], 1)
    assert "u.json, entry 1, field options: " in problems[0]


@pytest.mark.parametrize(
    "options", [None, [], {}, "", " ", "[]", [None, None], {"A": None, "B": None}, float("nan")]
)
def test_no_options_are_none(tmp_path, options):
    (tmp_path / "u.json").write_text(
        json.dumps([{"image": "a.png", "question": "Which?", "options": options, "answer": "B"}])
    )
    assert read(tmp_path / "u.json") == ([("Which?", "B")], [])


def test_absent_letters_are_closed_up(tmp_path):
    path = lines(tmp_path, {"options": {"A": "red", "B": None, "C": "blue", "D": "green"}, "answer": "D"})
    assert read(path) == ([(f"Which? A. red B. blue C. green{END}", "C")], [])


def test_a_null_inside_a_list_leaves_letters_open(tmp_path):
    gap = ["red", None, "blue", "green"]
    path = lines(tmp_path, *({"options": gap, "answer": answer} for answer in ("A", "blue", "C", "D")))
    samples, problems = read(path)
    assert [answer for _, answer in samples] == ["A", "B"]
    assert all("are ambiguous after a null among them" in problem for problem in problems)
    assert len(problems) == 2


def test_options_of_tables(tmp_path):
    letters = pa.struct([(letter, pa.string()) for letter in "ABCD"])
    pairs = pa.list_(pa.struct([("label", pa.string()), ("text", pa.string())]))
    columns = {
        "struct": pa.array([{"A": "red", "B": "blue"}], letters),
        "map": pa.array([[("A", "red"), ("B", "blue")]], pa.map_(pa.string(), pa.string())),
        "pairs": pa.array([[{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}]], pairs),
        "list": pa.array([["red", "blue"]]),
        "bytes": pa.array([b"['red', 'blue']"]),
    }
    for name, column in columns.items():
        table = {"image": ["a.png"], "question": ["Which?"], "answer": ["B"], "options": column}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        assert read(tmp_path / f"{name}.parquet") == ([(RED_BLUE, "B")], []), name
    numbers = {"options": pa.array([[0.5, 0.1]], pa.list_(pa.float32())), "answer": ["0.1"]}
    pq.write_table(pa.table({"image": ["a.png"], "question": ["Which?"], **numbers}), tmp_path / "n.parquet")
    assert read(tmp_path / "n.parquet") == ([(f"Which? A. 0.5 B. 0.1{END}", "B")], [])


def test_a_column_for_each_option(tmp_path):
    (tmp_path / "mmbench.tsv").write_text(
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\timage\n"
        '1\tWhich?\t\tred\tblue\t\t\tB\ta.png\n2\t"Which ""one""?"\t\ttrue\tfalse\tboth\t\tC\tb.png\n'
    )
    expected = [(RED_BLUE, "B"), (f'Which "one"? A. true B. false C. both{END}', "C")]
    assert read(tmp_path / "mmbench.tsv") == (expected, [])
    path = lines(tmp_path, {"option_a": "red", "option_b": "blue", "answer": "B", "A": 1})
    assert read(path) == ([(RED_BLUE, "B")], []), "a single letter is another column"
    path = lines(tmp_path, {"optionA": "red", "optionB": "blue", "answer": "B"})
    assert read(path) == ([(RED_BLUE, "B")], [])
    assert read(f"{path}?options=") == ([("Which?", "B")], []), "an empty setting turns them off"
    path = lines(tmp_path, {"a": "red", "b": "blue", "answer": "B"})
    assert read(path) == ([("Which?", "B")], []), "small letters are columns of anything"


@pytest.mark.parametrize(
    ("options", "answer", "names"),
    [
        (["B", "A"], "A", ("'B' as a letter", "'A' as a text", "?answers=letter or ?answers=text")),
        (["B", "A"], "b", ("'A' as a letter", "'B' as a text")),
        (["red", "blue", "green"], 1, ("'blue' counted from 0", "'red' counted from 1", "?answers=index0")),
        (["red", "blue", "green"], 1.0, ("'blue' counted from 0", "'red' counted from 1")),
        ([3, 1, 2], 2, ("'2' as a text", "'2' counted from 0", "'1' counted from 1")),
        (["2", "3", "4"], 3, ("'3' as a text", "'4' counted from 1")),
        ({"A": "red", "B": "blue", "C": "green"}, 1, ("'blue' counted from 0", "'red' counted from 1")),
    ],
)
def test_readings_that_differ_are_not_guessed(tmp_path, options, answer, names):
    samples, (problem,) = read(lines(tmp_path, {"options": options, "answer": answer}))
    assert not samples
    assert "line 1, field options: " in problem
    for name in names:
        assert name in problem


@pytest.mark.parametrize(
    ("answers", "options", "answer", "letter"),
    [
        ("letter", ["B", "A"], "A", "A"),
        ("text", ["B", "A"], "A", "B"),
        ("index0", ["red", "blue", "green"], 1, "B"),
        ("index1", ["red", "blue", "green"], 1, "A"),
        ("index0", ["red", "blue", "green"], "1", "B"),
        ("index1", ["red", "blue", "green"], "3.0", "C"),
        ("text", [3, 1, 2], 2, "C"),
        ("index1", [3, 1, 2], 2, "B"),
    ],
)
def test_the_user_says_which_reading_is_right(tmp_path, answers, options, answer, letter):
    path = lines(tmp_path, {"options": options, "answer": answer})
    samples, problems = read(f"{path}?answers={answers}")
    assert ([one for _, one in samples], problems) == ([letter], [])


def test_a_reading_that_the_user_names_and_an_answer_has_not_is_a_problem(tmp_path):
    path = lines(tmp_path, {"options": ["red", "blue"], "answer": "blue"})
    assert "'blue' is none of the options 'red', 'blue' as a letter" in read(f"{path}?answers=letter")[1][0]
    path = lines(tmp_path, {"options": ["red", "blue"], "answer": 2})
    assert "'2' is none of the options 'red', 'blue' counted from 0" in read(f"{path}?answers=index0")[1][0]
    with pytest.raises(
        ValueError, match="answers is 'index', but must be one of letter, text, index0, index1"
    ):
        parse_input("x.jsonl?answers=index")


def test_readings_that_agree_or_are_alone_are_taken(tmp_path):
    rows = [
        {"options": [1, 2], "answer": 2},
        {"options": ["A", "B"], "answer": "B"},
        {"options": ["red", "blue"], "answer": 0},
        {"options": [10, 20], "answer": 20.0},
        {"options": [True, False], "answer": False},
        {"options": ["2", "3", "4"], "answer": "3"},
        {"options": {"1": "red", "2": "blue"}, "answer": 2},
    ]
    samples, problems = read(lines(tmp_path, *rows))
    assert ([answer for _, answer in samples], problems) == (["B", "B", "A", "B", "B", "B", "B"], [])


def test_numbers_are_texts_where_the_whole_file_says_so(tmp_path):
    """As in PuzzleVQA: some answers are options and cannot be places, so that no number is a place."""
    told = [{"options": ["4", "8", "1", "9"], "answer": 1}, {"options": ["4", "9", "2", "1"], "answer": 9}]
    assert [answer for _, answer in read(lines(tmp_path, *told))[0]] == ["C", "B"]
    open_still = [told[0], {"options": ["4", "2", "3", "1"], "answer": 3}]
    assert len(read(lines(tmp_path, *open_still))[1]) == 2
    wrong = [*told, {"options": ["red", "blue", "green"], "answer": 1}]
    assert len(read(lines(tmp_path, *wrong))[1]) == 2, "texts do not hold for all rows"


def test_a_csv_cell_tells_no_number_from_a_text(tmp_path):
    (tmp_path / "u.csv").write_text('image,question,options,answer\na.png,Which?,"[""2"",""3"",""4""]",3\n')
    samples, (problem,) = read(tmp_path / "u.csv")
    assert not samples
    assert "'3' could be '3' as a text or '4' counted from 1" in problem
    assert read(f"{tmp_path / 'u.csv'}?answers=text")[0][0][1] == "B"


def test_a_question_that_lists_its_options_gets_the_letter_that_it_gives(tmp_path):
    listed = {"question": "Which? A. red B. blue", "options": ["red", "blue"]}
    rows = [{**listed, "answer": answer} for answer in ("B", "blue", "(B)", "neither")]
    samples, problems = read(lines(tmp_path, *rows))
    assert [answer for _, answer in samples] == ["B", "B", "B", "neither"]
    assert {question for question, _ in samples} == {"Which? A. red B. blue"}
    assert not problems
    (problem,) = read(lines(tmp_path, {**listed, "question": "A. red B. blue C. green?", "answer": 1}))[1]
    assert "could be" in problem


@pytest.mark.parametrize(
    "options",
    [
        ["-1", "1"],
        ["<3", ">3"],
        ["C", "C++"],
        ["1/2", "1.2"],
        ["5", "5%"],
        ["x^2", "x_2"],
        ["1. red", "3. blue"],
    ],
    ids=str,
)
def test_options_that_differ_by_a_sign_are_not_the_same(tmp_path, options):
    samples, problems = read(lines(tmp_path, {"options": options, "answer": options[1]}))
    assert ([answer for _, answer in samples], problems) == (["B"], [])


@pytest.mark.parametrize(
    "options", [["polka dots", "Polka-dots"], ["red", "red."], ["3 m", "3 M."], ["1", "1 "]], ids=str
)
def test_options_that_differ_by_writing_alone_are_a_problem(tmp_path, options):
    (problem,) = read(lines(tmp_path, {"options": options, "answer": options[0]}))[1]
    assert "are the same" in problem or "is none of" in problem


WORDS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=8).filter(
        lambda word: word not in ("nan", "null")
    ),
    min_size=2,
    max_size=8,
    unique=True,
)
WRITINGS = {
    "list": lambda words, letters: words,
    "object": lambda words, letters: dict(zip(letters, words, strict=True)),
    "Python": lambda words, letters: repr(words),
    "JSON": lambda words, letters: json.dumps(words),
    "numpy": lambda words, letters: str(np.array(words)),
    "records": lambda words, letters: [
        {"label": letter, "text": word} for letter, word in zip(letters, words, strict=True)
    ],
    "lettered": lambda words, letters: [
        f"{letter}) {word}" for letter, word in zip(letters, words, strict=True)
    ],
    "lines": lambda words, letters: "\n".join(
        f"({letter}) {word}" for letter, word in zip(letters, words, strict=True)
    ),
    "padded": lambda words, letters: [*words, None],
}
NAMES = (
    lambda word, letter: word,
    lambda word, letter: letter,
    lambda word, letter: f"({letter.lower()})",
    lambda word, letter: f"{letter}. {word}",
    lambda word, letter: f"Option {letter}",
    lambda word, letter: word.upper(),
)


@settings(max_examples=150, deadline=None)
@given(WORDS, st.sampled_from(list(WRITINGS)), st.sampled_from(NAMES), st.data())
def test_random_options_keep_the_right_answer(tmp_path_factory, words, writing, name, data):
    place = data.draw(st.integers(0, len(words) - 1))
    letters = "ABCDEFGH"[: len(words)]
    row = {"options": WRITINGS[writing](words, letters), "answer": name(words[place], letters[place])}
    samples, problems = read(lines(tmp_path_factory.mktemp("options"), row))
    assert not problems
    listed = " ".join(f"{letter}. {word}" for letter, word in zip(letters, words, strict=True))
    assert samples == [(f"Which? {listed}{END}", letters[place])]


@settings(max_examples=80, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_raises_anything_but_a_sentence(value):
    for one in (value, repr(value)):
        with suppress(BadOptions, Unreadable):
            choices_of(one)


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 60_000,
        "[" + "-" * 60_000 + "1]",
        "[" + "'a'," * 20_000,
        "{" * 500 + "}" * 500,
        "[" + "9" * 60_000 + "]",
    ],
    ids=["brackets", "signs", "open", "braces", "digits"],
)
def test_hostile_texts_end_at_once(bomb):
    began = time.monotonic()
    assert parsed(bomb) is None or isinstance(parsed(bomb), list)
    assert parsed("[" + "'a'," * 100_000 + "]") is None, "too long"
    assert time.monotonic() - began < 30
    with pytest.raises(BadOptions):
        choices_of("(" + bomb)
