"""CSV and TSV: an open quote costs its own line, and texts over several lines are read."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.readers.csv_files import csv_rows
from pairuni.pairug.sources.readers.rows import Row
from source_data import understood


def read(path: Path, text: str | bytes) -> tuple[list[tuple[int, dict[str, str]]], list[tuple[int, str]]]:
    """(line, cells) of each row and (line, reason) of each problem."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    every = list(csv_rows(path))
    rows = [(one.line, one.values) for one in every if isinstance(one, Row)]
    return rows, [(one.line, one.reason) for one in every if isinstance(one, Problem)]


@pytest.mark.parametrize(
    ("lines", "kept", "bad"),
    [
        (['a.png,"good', "b.png,fine", "c.png,well"], [3, 4], [2]),
        (['a.png,"good', "b.png,fine", 'c.png,"well"'], [3, 4], [2]),
        (['a.png,"good', 'b.png,fine"', "c.png,well"], [3, 4], [2]),
        (['a.png,"good', "b.png,fine", 'c.png,"open too', "d.png,well"], [3, 5], [2, 4]),
        (['"a.png,good', "b.png,fine", '"c.png",well'], [3, 4], [2]),
        (['a.png,"Hello" he said', "b.png,fine"], [3], [2]),
        (["a.png,good", 'b.png,"', "c.png,well"], [2, 4], [3]),
        (['a.png,6" pipe', 'b.png,say "hi"', "c.png,well"], [2, 3, 4], []),
        (["a.png,good", 'b.png,"at the end'], [2], [3]),
    ],
    ids=range(9),
)
def test_an_open_quote_does_not_swallow_the_next_row(tmp_path, lines, kept, bad):
    for end in ("\n", "\r\n", "\r"):
        text = end.join(["image,caption", *lines, ""])
        rows, problems = read(tmp_path / "x.csv", text)
        assert ([line for line, _ in rows], [line for line, _ in problems]) == (kept, bad)


def test_a_row_that_swallowed_rows_of_as_many_cells_is_told_by_their_kind(tmp_path):
    swallowed = 'image,caption\na.png,"good\nb.png,fine"\nc.png,well\n'
    rows, problems = read(tmp_path / "x.csv", swallowed)
    assert [line for line, _ in rows] == [3, 4]
    assert problems == [(2, "a quote is opened and not closed")]
    text = 'image,caption\na.png,"Hello\nworld, all"\nb.png,fine\n'
    rows, problems = read(tmp_path / "x.csv", text)
    assert rows[0] == (2, {"image": "a.png", "caption": "Hello\nworld, all"})
    assert not problems


def test_texts_over_several_lines_are_read(tmp_path):
    text = (
        'image,question,answer\r\na.png,"Which?\r\nA. red, or\r\n\r\nB. ""blue""",B\r\nb.png,"one, two",A\r\n'
    )
    rows, problems = read(tmp_path / "x.csv", text)
    assert rows == [
        (2, {"image": "a.png", "question": 'Which?\r\nA. red, or\r\n\r\nB. "blue"', "answer": "B"}),
        (6, {"image": "b.png", "question": "one, two", "answer": "A"}),
    ]
    assert not problems
    rows, problems = read(tmp_path / "x.tsv", 'image\ttext\na.png\t"two\nlines"\nb.png\tone\n')
    assert (rows[0], len(rows), problems) == ((2, {"image": "a.png", "text": "two\nlines"}), 2, [])


def test_a_quote_of_a_tsv_is_a_character_unless_it_is_closed_in_order(tmp_path):
    text = 'image\ttext\na.png\t"good\nb.png\t"Hello" he said\nc.png\t"in ""order"""\n"d.png\twell"\ne.png\tthe end"\n'
    rows, problems = read(tmp_path / "x.tsv", text)
    texts = ['"good', '"Hello" he said', 'in "order"', 'well"', 'the end"']
    assert [cells["text"] for _, cells in rows] == texts
    assert not problems


def test_faults_of_files(tmp_path):
    path = tmp_path / "x.csv"
    good = {"image": "a.png", "caption": "x"}
    assert read(path, b'\xef\xbb\xbf"image","caption"\na.png,x\n')[0] == [(2, good)]
    assert read(path, "") == read(path, "\n\n") == read(path, "image,caption\n") == ([], [])
    assert read(path, "image,caption\r\n\r\na.png,x\r\n\r\n")[0] == [(3, good)]
    assert read(path, "image,caption\na.png,\n")[0] == [(2, {"image": "a.png"})]
    rows, problems = read(path, "image,caption\na.png\nb.png,x,y\nc.png,x\n")
    assert [line for line, _ in rows] == [4]
    assert problems == [
        (2, "has 1 cell, but the header has 2"),
        (3, "has 3 cells, but the header has 2"),
    ]
    rows, problems = read(path, b"image,caption\na.png,caf\xe9\nb.png,n\0l\nc.png,x\n")
    assert ([line for line, _ in rows], problems) == (
        [4],
        [(2, "is not UTF-8 text"), (3, "is not UTF-8 text")],
    )
    assert "the header is not UTF-8 text" in read(path, "image,caption\n".encode("utf-16"))[1][0][1]
    assert "the header cannot be read: a quote is opened" in read(path, 'image,"caption\na.png,x\n')[1][0][1]
    assert "several columns called 'a'" in read(path, "a,a\nx,y\n")[1][0][1]


@pytest.mark.parametrize("head", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ";"), ("csv", "\t"), ("csv", "|"), ("tsv", ",")])
def test_delimiters_that_the_suffix_does_not_tell(tmp_path, suffix, delimiter, head, end):
    cells = [["image", "text"], ["a.png", '"x, y; z | é"'], ["", ""], ["b.png", "q"]]
    text = head + end.join(delimiter.join(row) for row in cells) + end
    rows, problems = read(tmp_path / f"x.{suffix}", text)
    assert ([cells["text"] for _, cells in rows], problems) == (["x, y; z | é", "q"], [])


def test_the_delimiter_that_excel_names(tmp_path):
    rows, problems = read(tmp_path / "x.csv", "sep=;\nimage; text \na.png;q, r\nb.png\n")
    assert rows == [(3, {"image": "a.png", "text": "q, r"})]
    assert problems == [(4, "has 1 cell, but the header has 2")]


def test_an_empty_cell_is_not_a_missing_column(tmp_path):
    (tmp_path / "x.csv").write_text("image,question,answer,label\na.png,q,,\n")
    assert understood(tmp_path / "x.csv").problem.endswith("is missing; column answer is empty here")
    problem = understood(f"{tmp_path / 'x.csv'}?answer=label").problem
    assert problem.endswith("must be a string, not None: the row has no value there")


def test_a_record_without_end_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("pairuni.pairug.sources.readers.csv_files._LONGEST", 1000)
    rows, problems = read(tmp_path / "x.csv", 'image,caption\na.png,"open\n' + "b.png,fine\n" * 500)
    assert (len(rows), [line for line, _ in problems]) == (500, [2])
    rows, problems = read(tmp_path / "x.csv", "image,caption\na.png,x\nb.png," + "y" * 2000 + "\nc.png,x\n")
    assert (len(rows), problems) == (1, [(3, "is longer than 1,000 characters; the rest is not read")])


@pytest.mark.parametrize(
    "line", ['a.png,"open', 'x","b', 'a.png,"', '"""a,', '"', 'x"",""",b', "a,b"], ids=range(7)
)
def test_hostile_quotes_take_linear_time(tmp_path, line):
    began = time.monotonic()
    rows, problems = read(tmp_path / "x.csv", "image,caption\n" + f"{line}\n" * 5_000)
    assert len(rows) + len(problems) > 0
    assert time.monotonic() - began < 30


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"))] * 3), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_python_writes_with_all_quotes_is_read_as_written(tmp_path_factory, cells, end, every):
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    if not every:  # a lone \r that needs quotes is written without
        cells = [tuple(text.replace("\r", "") for text in texts) for texts in cells]
    names = [(f"{number}.png", *texts) for number, texts in enumerate(cells)]
    writer.writerows([("image", "a", "b", "c"), *names])
    rows, problems = read(tmp_path_factory.mktemp("csv") / "x.csv", buffer.getvalue())
    assert not problems
    expected = [dict(zip(("image", "a", "b", "c"), row, strict=True)) for row in names]
    assert [cells for _, cells in rows] == [{n: c for n, c in row.items() if c} for row in expected]


@settings(max_examples=150, deadline=None)
@given(st.text('ab,\t"\n\r', max_size=60), st.sampled_from(["csv", "tsv"]))
def test_every_line_is_in_a_row_or_a_problem(tmp_path_factory, text, suffix):
    rows, problems = read(tmp_path_factory.mktemp("any") / f"x.{suffix}", "h,i\n" + text)
    lines = [line for line, _ in rows] + [line for line, _ in problems]
    assert len(set(lines)) == len(lines)
    assert all(line >= 1 for line in lines)
