"""Options in the forms of public data sets, and the option that an answer names: the right one, or a problem."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairuni.pairug.sources.choices import BadOptions, choices_of, parsed
from pairuni.pairug.sources.inputs import parse_input
from source_data import lines, understood

END = " Answer with the options letter from the given choices directly."
RED_BLUE = "Which? A. red B. blue" + END
BASE = {"image": "a.png", "question": "Which?"}


def read(given: object) -> tuple[list[tuple[str, str]], list[str]]:
    """(question, answer) of each sample, and the problems."""
    found = understood(given)
    return [(one.question, one.answer) for one in found.samples], found.problems


def rows(folder: Path, *rows: dict[str, Any]) -> Path:
    return lines(folder / "u.jsonl", *({**BASE, **row} for row in rows))


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
    "with nulls at the end": ["red", "blue", None, None],
    "lettered text": "A. red B. blue",
    "lettered lines": "(A) red\n(B) blue\n",
}


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_every_form_of_options_is_read(tmp_path, options):
    path = rows(
        tmp_path, *({"options": options, "answer": answer, "id": answer} for answer in ("blue", "Blue."))
    )
    assert read(path) == ([(RED_BLUE, "B")] * 2, [])


@pytest.mark.parametrize(
    "answer",
    [
        *("B", "b", "(B)", "B.", "B)", "B:", "[B]", "**B**", "$B$", "`B`", " B\n", "Ｂ", ["B"]),
        *("B. blue", "(B) blue", "B: Blue", "Option B", "option (b)", "The answer is B.", "Answer: B"),
        *("答案：B", "正确答案是B", "选B", "<answer>B</answer>", "<think>A?</think>\nB"),
        *("\\boxed{B}", r"\boxed{\text{B}}", r"$$\boxed{B}.$$"),
    ],
    ids=str,
)
def test_every_spelling_of_a_letter_is_read(tmp_path, answer):
    path = rows(tmp_path, {"options": ["red", "blue"], "answer": answer})
    assert read(path) == read(f"{path}?answers=letter") == ([(RED_BLUE, "B")], [])


@pytest.mark.parametrize(
    "answer",
    [
        *("C", "AB", "A or B", "A, B", "B. red", "Option C", "2.5", "greenish", "B blue red", "the blue one"),
        *("选A或B", "答案", "green"),
    ],
)
def test_an_answer_that_names_no_option_is_a_problem(tmp_path, answer):
    samples, (problem,) = read(rows(tmp_path, {"options": ["red", "blue"], "answer": answer}))
    assert not samples
    assert f"line 1, field options: {answer!r} is none of the options 'red', 'blue'" in problem


def test_an_answer_of_reasoning_alone_is_a_problem(tmp_path):
    found = read(rows(tmp_path, {"options": ["red", "blue"], "answer": "<think>B"}))
    assert found[0] == []
    assert "line 1, field answer: must not be empty" in found[1][0]


@pytest.mark.parametrize(
    "options",
    [
        *(3, True, "red", "red, blue", "red blue", "red|blue", "yes/no", "null, None", ["", "blue"]),
        *([["red", "blue"]], [{"text": "red"}, "blue"], [{"x": "red", "y": "blue"}], ["red", ["blue"]]),
        *({"first": "red", "second": "blue"}, {"A": ["red"], "B": ["blue"]}, {"A": "red", "1": "blue"}),
        *(
            '"red"',
            "[1, 2",
            "{'red', 'blue'}",
            "__import__('os').getcwd()",
            "[x for x in 'ab']",
            "f['a']",
            "[1 2]",
        ),
        *([{"label": "A", "text": "red"}, {"label": "A", "text": "blue"}], [float("inf"), 1]),
        "array(['red', 'blue'], dtype=object)",
    ],
    ids=str,
)
def test_any_other_value_is_a_problem_of_its_row(tmp_path, options):
    (tmp_path / "u.json").write_text(json.dumps([{**BASE, "options": options, "answer": "B"}]))
    samples, (problem,) = read(tmp_path / "u.json")
    assert not samples
    assert "u.json, entry 1, field options: " in problem


@pytest.mark.parametrize(
    "options",
    [
        *(None, [], {}, "", " ", "[]", "{}", "['']", "null", " None ", "nan", ["", ""], [None], [None, None]),
        *({"A": None}, {"A": None, "B": None}, float("nan")),
    ],
    ids=repr,
)
def test_no_options_are_none(tmp_path, options):
    (tmp_path / "u.json").write_text(json.dumps([{**BASE, "options": options, "answer": "blue"}]))
    assert read(tmp_path / "u.json") == ([("Which?", "blue")], [])


def test_nulls_between_options(tmp_path):
    path = rows(tmp_path, {"options": {"A": "red", "B": None, "C": "blue", "D": "green"}, "answer": "D"})
    assert read(path) == ([(f"Which? A. red B. blue C. green{END}", "C")], []), "labels are kept"
    gap = ["red", None, "blue", "green"]
    samples, problems = read(
        rows(tmp_path, *({"options": gap, "answer": answer} for answer in ("A", "blue", "C", "D")))
    )
    assert [answer for _, answer in samples] == ["A", "B"]
    assert ["are ambiguous after a null" in problem for problem in problems] == [True, True]


@pytest.mark.parametrize(
    ("options", "answer", "problem"),
    [
        (["red", "Red"], "red", "the options 'red' and 'Red' are the same"),
        (["polka dots", "Polka-dots"], "polka dots", "are the same"),
        (["red", "red."], "red", "are the same"),
        (["3 m", "3 M."], "3 m", "are the same"),
        (["1", "1 "], "1", "'1' is none of"),
        ([str(n) for n in range(9)], "3", "there are 9 options; at most 8"),
    ],
)
def test_options_that_no_letters_distinguish_are_a_problem(tmp_path, options, answer, problem):
    samples, problems = read(rows(tmp_path, {"options": options, "answer": answer}))
    assert (samples, len(problems)) == ([], 1)
    assert problem in problems[0]


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
    samples, problems = read(rows(tmp_path, {"options": options, "answer": options[1]}))
    assert ([answer for _, answer in samples], problems) == (["B"], [])


def test_options_of_tables(tmp_path):
    letters = pa.struct([(letter, pa.string()) for letter in "ABCD"])
    pairs = pa.list_(pa.struct([("label", pa.string()), ("text", pa.string())]))
    columns = {
        "struct": pa.array([{"A": "red", "B": "blue"}], letters),
        "map": pa.array([[("A", "red"), ("B", "blue")]], pa.map_(pa.string(), pa.string())),
        "pairs": pa.array([[{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}]], pairs),
        "list": pa.array([["red", "blue"]]),
        "bytes": pa.array([b"['red', 'blue']"]),
        "floats": pa.array([[0.5, 0.1]], pa.list_(pa.float32())),
    }
    for name, column in columns.items():
        table = {"image": ["a.png"], "question": ["Which?"], "answer": ["B"], "options": column}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        question = f"Which? A. 0.5 B. 0.1{END}" if name == "floats" else RED_BLUE
        assert read(tmp_path / f"{name}.parquet") == ([(question, "B")], []), name


def test_a_column_for_each_option(tmp_path):
    (tmp_path / "mmbench.tsv").write_text(
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\timage\n"
        '1\tWhich?\t\tred\tblue\t\t\tB\ta.png\n2\t"Which ""one""?"\t\ttrue\tfalse\tboth\t\tC\tb.png\n'
    )
    expected = [(RED_BLUE, "B"), (f'Which "one"? A. true B. false C. both{END}', "C")]
    assert read(tmp_path / "mmbench.tsv") == (expected, [])
    path = rows(tmp_path, {"option_a": "red", "option_b": "blue", "answer": "B", "A": 1})
    assert read(path) == ([(RED_BLUE, "B")], []), "a single letter is another column"
    path = rows(tmp_path, {"optionA": "red", "optionB": "blue", "answer": "B"})
    assert read(path) == ([(RED_BLUE, "B")], [])
    assert read(f"{path}?options=") == ([("Which?", "B")], []), "an empty setting turns them off"
    path = rows(tmp_path, {"a": "red", "b": "blue", "answer": "B"})
    assert read(path) == ([("Which?", "B")], []), "small letters may be columns of anything"


@pytest.mark.parametrize(
    ("options", "answer", "facts"),
    [
        (["B", "A"], "A", ("'B' as a letter", "'A' as a text", "?answers=letter or ?answers=text")),
        (["B", "A"], "b", ("'A' as a letter", "'B' as a text")),
        (["red", "blue", "green"], 1, ("'blue' counted from 0", "'red' counted from 1", "?answers=index0")),
        (["red", "blue", "green"], 1.0, ("'blue' counted from 0", "'red' counted from 1")),
        ([3, 1, 2], 2, ("'2' as a text", "'2' counted from 0", "'1' counted from 1")),
        (["2", "3", "4"], 3, ("'3' as a text", "'4' counted from 1")),
        ({"A": "red", "B": "blue", "C": "green"}, 1, ("'blue' counted from 0", "'red' counted from 1")),
        (["red", "blue", "green"], "2", ("?answers=index0 or ?answers=index1 interprets it as a position",)),
        (["red", "blue", "green"], "3", ("; ?answers=index1 interprets it as a position",)),
    ],
)
def test_ambiguous_answers_are_not_guessed(tmp_path, options, answer, facts):
    samples, (problem,) = read(rows(tmp_path, {"options": options, "answer": answer}))
    assert not samples
    assert "line 1, field options: " in problem
    assert [fact for fact in facts if fact not in problem] == []


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
        ("letter", ["red", "blue"], "blue", "'blue' is none of the options 'red', 'blue' as a letter"),
        ("index0", ["red", "blue"], 2, "'2' is none of the options 'red', 'blue' counted from 0"),
    ],
)
def test_the_user_says_how_answers_name_options(tmp_path, answers, options, answer, letter):
    samples, problems = read(f"{rows(tmp_path, {'options': options, 'answer': answer})}?answers={answers}")
    assert letter in samples[0][1] if samples else letter in problems[0]
    assert len(samples) + len(problems) == 1


def test_an_unknown_setting_of_answers_is_refused():
    with pytest.raises(
        ValueError, match="answers is 'index', but must be one of letter, text, index0, index1"
    ):
        parse_input("x.jsonl?answers=index")


def test_interpretations_that_agree_or_are_the_only_one_are_taken(tmp_path):
    cases = [
        ([1, 2], 2, "B"),
        (["A", "B"], "B", "B"),
        (["red", "blue"], 0, "A"),
        ([10, 20], 20.0, "B"),
        ([True, False], False, "B"),
        (["2", "3", "4"], "3", "B"),
        ({"1": "red", "2": "blue"}, 2, "B"),
    ]
    samples, problems = read(
        rows(tmp_path, *({"options": one, "answer": answer} for one, answer, _ in cases))
    )
    assert ([answer for _, answer in samples], problems) == ([letter for *_, letter in cases], [])


def test_numbers_are_texts_if_the_file_shows_it(tmp_path):
    """As in PuzzleVQA: some answers are options and cannot be positions, so no number is a position."""
    told = [{"options": ["4", "8", "1", "9"], "answer": 1}, {"options": ["4", "9", "2", "1"], "answer": 9}]
    assert [answer for _, answer in read(rows(tmp_path, *told))[0]] == ["C", "B"]
    still_open = [told[0], {"options": ["4", "2", "3", "1"], "answer": 3}]
    assert len(read(rows(tmp_path, *still_open))[1]) == 2
    wrong = [*told, {"options": ["red", "blue", "green"], "answer": 1}]
    assert len(read(rows(tmp_path, *wrong))[1]) == 2, "not all answers are texts"


def test_a_csv_cell_may_be_a_number_or_a_text(tmp_path):
    (tmp_path / "u.csv").write_text('image,question,options,answer\na.png,Which?,"[""2"",""3"",""4""]",3\n')
    samples, (problem,) = read(tmp_path / "u.csv")
    assert not samples
    assert "'3' could be '3' as a text or '4' counted from 1" in problem
    assert read(f"{tmp_path / 'u.csv'}?answers=text")[0][0][1] == "B"


def test_a_question_that_lists_its_options_is_kept(tmp_path):
    listed = {"question": "Which? A. red B. blue", "options": ["red", "blue"]}
    samples, problems = read(
        rows(tmp_path, *({**listed, "answer": answer} for answer in ("B", "blue", "(B)", "neither")))
    )
    assert samples == [(listed["question"], answer) for answer in ("B", "B", "B", "neither")]
    assert not problems
    (problem,) = read(rows(tmp_path, {**listed, "question": "A. red B. blue C. green?", "answer": 1}))[1]
    assert "could be" in problem


@pytest.mark.parametrize("question", ["Which is George B. Shaw's play?", "What is step B: the oven?"])
def test_a_letter_in_a_question_is_not_a_list_of_options(tmp_path, question):
    path = rows(tmp_path, {"question": question, "answer": "blue", "options": ["red", "blue"]})
    assert read(path) == ([(f"{question} A. red B. blue{END}", "B")], [])


WORDS = st.lists(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=8).filter(
        lambda word: word not in ("nan", "null")
    ),
    min_size=2,
    max_size=8,
    unique=True,
)
SPELLINGS = {
    "list": list,
    "object": lambda words: dict(zip("ABCDEFGH", words, strict=False)),
    "Python": repr,
    "JSON": json.dumps,
    "numpy": lambda words: str(np.array(words)),
    "records": lambda words: [{"label": a, "text": word} for a, word in zip("ABCDEFGH", words, strict=False)],
    "lettered": lambda words: [f"{a}) {word}" for a, word in zip("ABCDEFGH", words, strict=False)],
    "lines": lambda words: "\n".join(f"({a}) {word}" for a, word in zip("ABCDEFGH", words, strict=False)),
    "padded": lambda words: [*words, None],
}
NAMES = ("{word}", "{letter}", "({small})", "{letter}. {word}", "Option {letter}", "{capitals}")


@settings(max_examples=150, deadline=None)
@given(WORDS, st.sampled_from(list(SPELLINGS)), st.sampled_from(NAMES), st.data())
def test_random_options_keep_the_right_answer(tmp_path_factory, words, spelling, name, data):
    place = data.draw(st.integers(0, len(words) - 1))
    letter = "ABCDEFGH"[place]
    answer = name.format(
        word=words[place], letter=letter, small=letter.lower(), capitals=words[place].upper()
    )
    row = {"options": SPELLINGS[spelling](words), "answer": answer}
    listed = " ".join(f"{a}. {word}" for a, word in zip("ABCDEFGH", words, strict=False))
    assert read(rows(tmp_path_factory.mktemp("options"), row)) == ([(f"Which? {listed}{END}", letter)], [])


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
