"""Benchmarks by name, from files to a table, through the commands; results side by side."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.config import ScoreSettings
from pairuni.evaluation.comparison import compare, compare_with_row, find_results
from pairuni.evaluation.protocols.geneval_files import TASKS as GENEVAL
from pairuni.evaluation.protocols.geneval_files import Judged, write_results
from pairuni.evaluation.protocols.mmstar import CATEGORIES
from pairuni.evaluation.protocols.pope import Question, read_questions, write_replies
from pairuni.evaluation.protocols.wise import BUCKETS
from pairuni.evaluation.result import Result, read_result
from pairuni.evaluation.tasks import score_files
from pairuni.paper import published
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.rules import Verdict


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_mme_and_mmmu_of_real_models(benchmarks: Path, tmp_path: Path) -> None:
    shown = run("eval", "score", "mme", benchmarks / "mme" / "LaVIN", "--model", "LaVIN", "--out", tmp_path)
    assert "MME-Perception (official): 963.61" in shown
    assert "MME-Cognition (official): 249.64" in shown
    shown = run("eval", "score", "mmmu", benchmarks / "mmmu" / "qwen_vl", "--out", tmp_path)
    assert "(official): 36.11" in shown
    assert "(official, no random guess): 34.33" in shown
    names = ["mme-cognition-official", "mme-perception-official", "mmmu-validation-official"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == [*names, f"{names[-1]}-no-random-guess"]
    beside = run("compare", *sorted(tmp_path.iterdir()))
    assert "| LaVIN | official |  | 963.61 | 9" in beside
    assert "| PairUni-1B | the paper's figure |  | 1483.20 |" in beside
    assert "| mmmu-validation-official | official |  | 36.11 |" in beside


def test_pope_takes_its_questions_from_data(tmp_path: Path) -> None:
    name = "coco_pope_popular.json"
    row = {"image": "a.jpg", "text": "Is there a dog?", "label": "yes"}
    lines(tmp_path / name, [row, row | {"label": "no", "text": "Is there a cat?"}])
    questions = read_questions(tmp_path / name)
    assert questions[1] == Question("a.jpg", "Is there a cat?", False)
    write_replies(tmp_path / "replies" / name, questions, ["yes", "no"])
    shown = run("eval", "score", "pope", tmp_path / "replies", "--data", tmp_path)
    assert "POPE (official, partial (2 of 9,000)): 100.00 % F1, mean of popular" in shown
    with pytest.raises(ValueError, match="--data is needed"):
        score_files(ScoreSettings(task="pope", paths=[tmp_path]))


def test_what_was_judged_names_its_judge(tmp_path: Path) -> None:
    edits = tmp_path / "basic_edit.json"
    edits.write_text('{"1": {"edit_type": "add"}}')
    marks = {"consistency": 2, "realism": 1, "aesthetic_quality": 1}
    rows = [
        Judged(
            f"{tag}.png",
            {"tag": tag, "include": [], "prompt": tag},
            Verdict(True, ""),
            {"cat": [Detection((0, 0, 1, 1), 1)]},
        )
        for tag in GENEVAL
    ]
    write_results(tmp_path / "results.jsonl", rows)
    (tmp_path / "result.json").write_text('{"1": "A: 4"}')
    star = [{"answer": "A", "category": name, "prediction": "A"} for name in CATEGORIES]
    given = {
        "geneval": ScoreSettings(task="geneval", paths=[tmp_path / "results.jsonl"], judge="a"),
        "imgedit": ScoreSettings(task="imgedit", paths=[tmp_path / "result.json"], data=edits, judge="a"),
        "mmstar": ScoreSettings(task="mmstar", paths=[lines(tmp_path / "star", star)]),
        "wise": ScoreSettings(
            task="wise",
            paths=[
                lines(tmp_path / "w1", [{"prompt_id": i, **marks} for i in range(1, 600)]),
                lines(tmp_path / "w2", [{"prompt_id": i, **marks} for i in range(600, 1001)]),
            ],
            judge="a",
            protocol="legacy",
        ),
    }
    for task, expected in {"geneval": 100.0, "imgedit": 4.0, "mmstar": 100.0, "wise": 0.85}.items():
        (result,) = score_files(given[task].model_copy(update={"model": "m"}))
        assert result.score == pytest.approx(expected)
        assert result.settings["model"] == "m"
        if task != "mmstar":
            assert "a" in result.settings.values()
            with pytest.raises(ValueError, match="--judge is needed"):
                score_files(given[task].model_copy(update={"judge": None}))
    with pytest.raises(ValueError, match="--protocol is needed: legacy or verified"):
        score_files(ScoreSettings(task="wise", paths=given["wise"].paths, judge="a"))


GOOD = '{"tag": "counting", "prompt": "p"}'
FAULTY = {
    # task, file, content, what is said
    "geneval task": ("geneval", "r", {"metadata": '{"tag": "chess", "prompt": "p"}'}, "no task 'chess'"),
    "geneval metadata": ("geneval", "r", {"metadata": {}}, "line 1: metadata must be text"),
    "geneval json": ("geneval", "r", {"metadata": "{"}, "r, 0.png, metadata: is not valid JSON"),
    "geneval boxes": ("geneval", "r", {"details": '{"cat": [[1]]}'}, "r, 0.png: details must map"),
    "geneval correct": ("geneval", "r", {"correct": "yes"}, "correct must be true or false"),
    "imgedit list": ("imgedit", "r", [1], "r: expected a JSON object"),
    "imgedit edits": ("imgedit", "data", {"1": 3}, "is not ImgEdit's basic_edit.json"),
    "mmmu response": ("mmmu", "Art/output.json", {"response": None}, "item 1: response must be text"),
    "mmmu answer": ("mmmu", "Art/output.json", {"answer": 5}, "answer must be text or a list, not '5'"),
    "mmmu choices": ("mmmu", "Art/output.json", {}, "question a: lacks all_choices, index2ans"),
    "mmmu nested answer": ("mmmu", "Art/output.json", {"question_type": "open", "answer": [5]}, "not 5"),
    "mmmu nested option": (
        "mmmu",
        "Art/output.json",
        {"all_choices": ["A"], "index2ans": {"A": 5}},
        "answers and choices must be strings, not 5",
    ),
    "mmmu no option": (
        "mmmu",
        "Art/output.json",
        {"all_choices": [], "index2ans": {}},
        "question a: all_choices is empty",
    ),
    "mmmu twice": ("mmmu", "Art/output.json", {"question_type": "open"}, "question a is answered 2 times"),
    "pope answer": ("pope", "coco_pope_random.json", {"answer": None}, "line 1: answer must be text"),
    "wise id": ("wise", "r", {"prompt_id": [1]}, "line 1: prompt_id must be a whole number"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_faulty_official_files_are_named(tmp_path: Path, case: str) -> None:
    task, name, content, reason = FAULTY[case]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    data = tmp_path / "data"
    rows = {
        "geneval": {"filename": "0.png", "correct": True, "reason": "", "metadata": GOOD, "details": "{}"},
        "mmmu": {"id": "a", "question_type": "multiple-choice", "answer": "A", "response": "A"},
        "pope": {"question": "Is there a dog?", "answer": "yes"},
        "wise": {"prompt_id": 1},
    }
    row = {**rows[task], **content} if task in rows else content
    if task == "pope":
        data.mkdir()
        lines(data / name, [{"image": "a.jpg", "text": "Is there a dog?", "label": "yes"}])
    elif task == "imgedit":
        data.write_text('{"1": {"edit_type": "add"}}')
    path.write_text(json.dumps([row, row] if task == "mmmu" else row) + "\n")
    given = path if path.name == "r" else tmp_path
    if name == "data":
        given = tmp_path / "replies"
        given.write_text('{"1": "A: 4"}')
    with pytest.raises(ValueError) as caught:
        score_files(ScoreSettings(task=task, paths=[given], data=data, judge="a", protocol="legacy"))
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value) or case == "mmmu twice"


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    for words, reason in {
        ("chess", str(tmp_path)): "no benchmark is called 'chess'; known: mme, pope",
        ("mme", str(tmp_path / "none")): "none: no such file or folder",
        ("mmmu", str(tmp_path)): "has no <Subject>/output.json",
        ("mme", str(tmp_path), str(tmp_path)): "expected one path, got 2",
        ("pope", str(tmp_path), "--data", str(tmp_path)): "POPE needs at least one split",
    }.items():
        done = CliRunner().invoke(app, ["eval", "score", *words])
        assert (done.exit_code, reason in done.output) == (1, True), done.output


def result(protocol: str, score: float) -> Result:
    parts = dict.fromkeys(BUCKETS["legacy"], score)
    return Result(
        benchmark="WISE",
        protocol=protocol,
        score=score,
        unit="",
        interval=(score, score),
        parts=parts,
        counts={},
    )


def test_the_paper_stands_beside_the_legacy_protocol_only(tmp_path: Path) -> None:
    both = compare({Path("a.json"): result("legacy", 0.3), Path("b.json"): result("verified", 0.2)})
    legacy, verified = both.split("WISE (verified)")
    assert (
        "| PairUni-7B | the paper's figure |  | 0.45 |  | 0.36 | 0.46 | 0.62 | 0.42 | 0.55 | 0.29 |" in legacy
    )
    assert "paper" not in verified
    result("legacy", 0.3).write(tmp_path / "r.json")
    assert read_result(tmp_path / "r.json").slug == "wise-legacy"


def test_what_decides_a_score_is_told_and_names_its_file(tmp_path: Path) -> None:
    seer, other = ({"judge": name, "judge prompt": "0a"} for name in ("seer", "Gpt/4o"))
    whole = replace(result("legacy", 0.3), settings=seer)
    part = replace(result("legacy, partial (60 of 1,000)", 0.3), settings=other)
    assert (whole.slug, part.slug) == ("wise-legacy-seer", "wise-legacy-partial-gpt-4o")
    both = compare({Path("a.json"): whole, Path("b.json"): part})
    assert "| a | legacy | judge seer; judge prompt 0a | 0.30 |" in both
    assert "| b | legacy, partial (60 of 1,000) | judge Gpt/4o; judge prompt 0a | 0.30 |" in both
    assert "the paper's figure" in both
    assert "the paper's figure" not in compare({Path("b.json"): part})
    assert (
        compare({Path("a.json"): whole, Path("b.json"): replace(whole, unit="%")}).count("WISE (legacy)") == 2
    )


def test_the_papers_overall_is_that_of_its_parts() -> None:
    weights = [bucket.weight for bucket in BUCKETS["legacy"].values()]
    figures = {
        name: {model: row[name] for model, row in published().items() if name in row}
        for name in ("WISE", "GenEval")
    }
    for model, figure in figures["WISE"].items():
        assert list(figure.parts) == list(BUCKETS["legacy"])
        parts = list(figure.parts.values())
        weighted = sum(weight * part for weight, part in zip(weights, parts, strict=True))
        # the paper's own rows are plain means, those that it took from WISE are weighted
        overall = sum(parts) / 6 if model.startswith("PairUni") else weighted
        assert figure.score == pytest.approx(overall, abs=0.005)
    for figure in figures["GenEval"].values():
        assert list(figure.parts) in ([], list(GENEVAL))
        assert not figure.parts or figure.score == pytest.approx(sum(figure.parts.values()) / 6, abs=1.5)


def test_results_beside_one_row_of_the_paper(tmp_path: Path) -> None:
    whole = replace(result("legacy", 0.4), interval=(0.37, 0.43), parts={"culture": 0.25, "time": 0.5})
    whole.write(tmp_path / "wise" / "wise-legacy.json")
    (tmp_path / "wise" / "run.json").write_text('{"benchmark": "WISE", "model": "m"}')
    other = replace(whole, benchmark="MME-Cognition", protocol="official", unit="of 800", parts={})
    other.write(tmp_path / "mme" / "mme-cognition.json")
    said = run("compare", tmp_path, "--paper", "PairUni-1B").splitlines()
    assert said[0] == "Beside PairUni-1B of the paper (arXiv:2510.25682)"
    assert said[4:] == [
        "| MME-Cognition | official |  | 0.40 | 0.37 to 0.43 |  |  |  |  |",
        "| WISE | legacy |  | 0.40 | 0.37 to 0.43 | 0.38 | +0.02 | yes | WISE |",
        "| WISE, culture |  |  | 0.25 |  | 0.31 | −0.06 |  |  |",
        "| WISE, time |  |  | 0.50 |  | 0.39 | +0.11 |  |  |",
        "",
        "Without a result: MMMU validation 40.40, MMStar 46.40, MME-Perception 1483.20, POPE 86.40, GenEval 79.00.",
    ]


def test_a_part_of_a_benchmark_has_no_difference_to_the_paper(tmp_path: Path) -> None:
    part = replace(result("legacy, partial (60 of 1,000)", 0.3), parts={})
    (row,) = compare_with_row({tmp_path: part}, "PairUni-1B").splitlines()[4:5]
    assert row == "| WISE | legacy, partial (60 of 1,000) |  | 0.30 | 0.30 to 0.30 | 0.38 |  |  | WISE |"


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no row 'PairUni'; known: Janus-Pro-1B, .*pairing/random pairs"):
        compare_with_row({}, "PairUni")
    with pytest.raises(ValueError, match="contains no results of pairuni eval"):
        find_results([tmp_path])
    with pytest.raises(OSError, match="absent"):
        find_results([tmp_path / "absent.json"])


def test_figures_of_ablations_have_the_unit_of_results() -> None:
    row = published()["pairing/random pairs"]
    assert {name: figure.score for name, figure in row.items()} == {
        "MMMU validation": 38.4,
        "MMStar": 44.3,
        "GenEval": 73.0,
    }
    assert published()["weighting/sqrt s (7B)"]["MME-Perception"].score == 1597.71
