"""Faulty raw data through the commands: one clear sentence each, and no good sample lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from chat_server import ChatServer
from colour_world import rows_of, small
from pairuni.cli.app import app
from pairuni.console.counts import counted
from source_data import archive, encoded, lines, png_that_claims
from tiny_models import save_tiny_janus

SCENE = [{"place": "top left", "digit": 1, "colour": "red"}]
ASKED = {"question": "how many digits are there?", "answer": "one", "scene": SCENE}
PROMPTED = {"prompt": "a red one", "scene": SCENE}


def _png(number: int) -> bytes:
    return encoded(number=number)


class Raw:
    """Two samples a side in one folder; each case damages one side."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.understanding, self.generation = root / "u.jsonl", root / "g.jsonl"
        for number in range(4):
            (root / f"{number}.png").write_bytes(_png(number))
        self.write_understanding("u0", "u1")
        lines(self.generation, *({"id": f"g{n}", "image": f"{n}.png", **PROMPTED} for n in (2, 3)))

    def words(self, out: Path) -> list[str]:
        """Options of a command."""
        named = {"--understanding": self.understanding, "--generation": self.generation, "--out": out}
        return [word for name, path in named.items() for word in (name, str(path))]

    def write_understanding(self, *ids: str) -> None:
        rows = [{"id": name, "image": f"{number}.png", **ASKED} for number, name in enumerate(ids)]
        lines(self.understanding, *rows)


def huge_image(raw: Raw) -> None:
    (raw.root / "1.png").write_bytes(png_that_claims(20_000, 20_000))


def long_image(raw: Raw) -> None:
    (raw.root / "1.png").write_bytes(png_that_claims(20_000, 5_000))


def empty_cell(raw: Raw) -> None:
    raw.understanding = raw.root / "u.parquet"
    rows = [
        {"image": {"bytes": _png(number), "path": None}, **ASKED, "answer": None if number == 2 else "one"}
        for number in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), raw.understanding)


def missing_column(raw: Raw) -> None:
    raw.understanding = raw.root / "u.parquet"
    rows = [{"image": {"bytes": _png(n), "path": None}, **ASKED, "solution": "one"} for n in range(3)]
    table = pa.Table.from_pylist(rows).drop_columns(["answer"])
    pq.write_table(table, raw.understanding)


def half_a_tar(raw: Raw) -> None:
    raw.generation = raw.root / "g.tar"
    prompted = json.dumps(PROMPTED).encode()
    names = [f"{number:05d}" for number in range(8)]
    data = archive(
        [one for n, key in enumerate(names) for one in ((f"{key}.png", _png(n)), (f"{key}.json", prompted))]
    )
    raw.generation.write_bytes(data[: len(data) // 2])


def latin_1(raw: Raw) -> None:
    raw.generation.write_bytes(raw.generation.read_bytes().replace(b"a red one", b"a caf\xe9", 1))


def utf_16(raw: Raw) -> None:
    raw.generation = raw.root / "g.csv"
    raw.generation.write_text("image,caption\n2.png,a red one\n3.png,a red one\n", encoding="utf-16")


def repeated_id(raw: Raw) -> None:
    raw.write_understanding("u0", "u0")


def one_id_in_both(raw: Raw) -> None:
    raw.write_understanding("u0", "g2")


def shared_image(raw: Raw) -> None:
    (raw.root / "2.png").write_bytes(_png(0))


@dataclass(frozen=True)
class Case:
    """stop: the error of the build by default, None if it succeeds. reason: why records are dropped.

    dropped, completed: counts with ``--bad-records drop``; completed is None if no sample of a side is left.
    """

    spoil: Callable[[Raw], None]
    stop: str | None
    reason: str | None
    dropped: int
    completed: int | None


CASES = [
    Case(huge_image, None, "the image is too large (more than 178,956,970 pixels; at most", 1, 3),
    Case(long_image, None, "the image is too large (20000x5000 pixels; at most 89,478,485)", 1, 3),
    Case(empty_cell, "u.parquet, line 3, field answer: must be a string, not None", "not None", 1, 4),
    Case(
        missing_column,
        "u.parquet, line 1, field answer: is missing; the columns are image, question, scene, solution, and "
        "?answer=COLUMN selects one (and 2 more problems)",
        None,
        3,
        None,
    ),
    Case(
        half_a_tar,
        "g.tar, after member 00005: is truncated or damaged; 6 records are complete",
        "is truncated",
        1,
        8,
    ),
    Case(latin_1, "g.jsonl, line 1: is not UTF-8 text (byte 48)", "is not UTF-8 text", 1, 3),
    Case(utf_16, "g.csv, line 1: the header is not UTF-8 text; save the file as UTF-8", None, 1, None),
    Case(
        repeated_id,
        "u.jsonl, line 2, field id: 'u0' is also that of line 1; ids must differ",
        "'u0' is also that of line 1",
        1,
        3,
    ),
    Case(one_id_in_both, None, None, 0, 4),
    Case(shared_image, None, None, 0, 4),
]


@pytest.fixture
def quick_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairuni.api.pairs.make_encoder", lambda name: small)


def build(raw: Raw, *words: str) -> tuple[int, str, Path]:
    out = raw.root / "out"
    chosen = ("--annotator", "scene", "--clusters", "1", *words)
    result = CliRunner().invoke(app, ["pairs", "build", *raw.words(out), *chosen])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stderr, out


@pytest.mark.usefixtures("quick_encoder")
@pytest.mark.parametrize("case", CASES, ids=[case.spoil.__name__ for case in CASES])
def test_one_sentence_and_no_good_sample_lost(case: Case, tmp_path: Path) -> None:
    raw = Raw(tmp_path)
    case.spoil(raw)
    code, said, out = build(raw)
    if case.stop is not None:
        (sentence,) = (line for line in said.splitlines() if line.startswith("error: "))
        assert case.stop in sentence
        assert (code, (out / "pairs.jsonl").exists()) == (1, False)
        code, said, out = build(raw, "--bad-records", "drop")
    if case.completed is None:
        assert code == 1
        assert f"none of the {case.dropped} " in said
        assert not (out / "pairs.jsonl").exists()
        return
    assert code == 0, said
    completed, dropped = rows_of(out / "quadruples.jsonl"), rows_of(out / "dropped.jsonl")
    assert (len(completed), len(dropped)) == (case.completed, case.dropped)
    for one in dropped:
        assert case.reason is not None
        assert case.reason in one["reason"]
        assert len(one["reason"].splitlines()) == 1


@pytest.mark.usefixtures("quick_encoder")
def test_an_image_in_both_corpora_is_kept_with_both_texts_and_used_once(tmp_path: Path) -> None:
    raw = Raw(tmp_path)
    shared_image(raw)
    code, said, out = build(raw)
    assert code == 0, said
    places = {row["id"]: row["image_path"] for row in rows_of(out / "quadruples.jsonl")}
    assert places["u0"] == places["g2"]
    pairs = rows_of(out / "pairs.jsonl")
    used = [{pair[side]["image_path"] for side in ("generate_ann", "understand_ann")} for pair in pairs]
    assert sum(map(len, used)) == len(set().union(*used))


def test_parts_are_split_built_and_joined_by_the_commands(tmp_path: Path) -> None:
    model = save_tiny_janus(tmp_path / "model")
    raw, out = Raw(tmp_path), tmp_path / "out"
    given = raw.words(out)
    words = ["pairs", "split", *given, "--encoder", f"policy:{model}", "--annotator", "scene", "--parts", "1"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, "1 part, the largest of 4 samples" in result.stdout) == (0, True), result.stderr
    for words in (["build", str(out / "parts" / "000" / "build.toml")], ["join", str(out)]):
        result = CliRunner().invoke(app, ["pairs", *words])
        assert result.exit_code == 0, result.stderr
    assert f"{counted(len(rows_of(out / 'pairs.jsonl')), 'pair')}: {out / 'pairs.jsonl'}" in result.stdout


@pytest.mark.usefixtures("quick_encoder")
def test_an_endpoint_that_answers_html_costs_nothing_but_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    raw, page = Raw(tmp_path), [True]
    with ChatServer(lambda ask: "html" if page[0] else None) as server:
        words = ("--annotator", "endpoint", "--completion.model", "seer", "--completion.base-url", server.url)
        code, said, out = build(raw, *words)
        (sentence,) = (line for line in said.splitlines() if line.startswith("error: "))
        assert (code, (out / "pairs.jsonl").exists()) == (1, False)
        assert sentence.endswith("responds with an HTML page instead of a chat completion")
        page[0] = False
        code, said, out = build(raw, *words)
    assert code == 0, said
    assert len(rows_of(out / "quadruples.jsonl")) == 4
