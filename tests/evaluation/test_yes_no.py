import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.config import ScoreSettings, YesNoSettings
from pairuni.distributed.shares import Share
from pairuni.evaluation import model
from pairuni.evaluation.benchmark import balanced_subset, run_benchmark
from pairuni.evaluation.model import Model
from pairuni.evaluation.protocols import mme, pope
from pairuni.evaluation.tasks import score_files
from pairuni.evaluation.yes_no import mme_benchmark, pope_benchmark
from pairuni.policies.policy import TextSampling


class Echo:
    """Answers from a table of what is asked; keeps what it was asked."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply, self.asked = reply, []

    def sample_text(self, request: TextSampling) -> Any:
        assert request.temperature == 0.0
        assert all(image is not None and image.mode == "RGB" for image in request.images)
        self.asked += zip(request.images, request.questions, strict=True)
        return [[SimpleNamespace(text=self.reply(question), finished=True)] for question in request.questions]


def echo_model(reply: Callable[[str], str], **settings: Any) -> Model:
    model = Model(name="tiny", device="cpu", **settings)
    model.__dict__["policy"] = Echo(reply)
    return model


@pytest.fixture
def mme_images(benchmarks: Path, tmp_path: Path) -> Path:
    for category, rows in mme.read_questions(benchmarks / "mme" / "LaVIN").items():
        (tmp_path / "mme" / category).mkdir(parents=True)
        for row in rows:
            Image.new("RGB", (8, 8)).save(tmp_path / "mme" / category / row.image)
    return tmp_path / "mme"


def test_pope_asks_each_question_once_with_the_prompt_of_janus(
    benchmarks: Path, coco_images: Path, tmp_path: Path
) -> None:
    benchmark = pope_benchmark(
        YesNoSettings(model="tiny", data=benchmarks / "pope", out=tmp_path, images=coco_images)
    )
    assert len(benchmark.questions) == 5127
    assert benchmark.subset is None
    truths = {
        f"{q.text}|{q.image}": q.truth
        for split in pope.SPLITS
        for q in pope.read_questions(benchmarks / "pope" / f"coco_pope_{split}.json")
    }
    suffix = "\nAnswer the question using a single word or phrase."
    by_key = {ask.key: ask for ask in benchmark.questions}
    records = {}
    for key, ask in by_key.items():
        assert ask.question.endswith(suffix)
        true = truths[f"{ask.question.removesuffix(suffix)}|{ask.images[0].name}"]
        records[key] = {"reply": "Yes" if true else "No", "finished": True}
    (result,) = benchmark.finish(records)
    assert result.score == 100
    assert result.counts == dict.fromkeys(pope.SPLITS, 3000)
    again = score_files(ScoreSettings(task="pope", paths=[tmp_path / "answers"], data=benchmarks / "pope"))
    assert again[0].parts == result.parts


def test_mme_writes_the_files_that_it_is_scored_by(
    benchmarks: Path, mme_images: Path, tmp_path: Path
) -> None:
    lavin = mme.read_answers(benchmarks / "mme" / "LaVIN")
    by_question = {row.question: row.reply for rows in lavin.values() for row in rows}
    benchmark = mme_benchmark(
        YesNoSettings(
            model="tiny",
            data=benchmarks / "mme" / "LaVIN",
            out=tmp_path / "run",
            images=mme_images,
            limit=140,
        )
    )
    assert len(benchmark.questions) == 280
    model = echo_model(lambda asked: by_question[asked.partition("\n")[0]], batch_size=50)
    results = run_benchmark(benchmark, model, tmp_path / "run", Share())
    assert [result.benchmark for result in results] == ["MME-Perception", "MME-Cognition"]
    assert results[0].protocol == "official, partial (200 of 2,114)"
    assert "140 of 1,187 pictures" in results[0].settings["subset"]
    assert set(results[0].counts.values()) == {20, 0}
    written = score_files(ScoreSettings(task="mme", paths=[tmp_path / "run" / "answers"]))
    assert [one.parts for one in written] == [one.parts for one in results]
    assert 0 < results[0].score < 2000


def test_mme_of_the_release_is_the_mme_of_the_tool(tmp_path: Path) -> None:
    for place in ("celebrity/images", "celebrity/questions_answers_YN", "OCR"):
        (tmp_path / place).mkdir(parents=True)
    for text, picture in (
        ("celebrity/questions_answers_YN/b.txt", "celebrity/images/b.png"),
        ("OCR/a.txt", "OCR/a.jpg"),
    ):
        (tmp_path / text).write_text("Is it?\tYes\nIs it not?\tNo\n")
        Image.new("RGB", (8, 8)).save(tmp_path / picture)
    found = mme.read_questions(tmp_path)
    assert [row.image for row in found["OCR"]] == ["a.jpg", "a.jpg"]
    assert found["celebrity"][1] == mme.Answered("b.png", "Is it not?", "No", "")
    with pytest.raises(FileNotFoundError, match=r"lacks MME's existence, .*release"):
        mme_benchmark(YesNoSettings(model="tiny", data=tmp_path, out=tmp_path))
    (tmp_path / "OCR" / "a.txt").write_text("Is it?\tYes\n")
    with pytest.raises(ValueError, match="expected two questions, found 1"):
        mme.read_questions(tmp_path)


def test_missing_files_are_named_with_their_source(benchmarks: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"coco_pope_random\.json: no such file; .*github"):
        pope_benchmark(YesNoSettings(model="tiny", data=tmp_path, out=tmp_path))
    with pytest.raises(FileNotFoundError, match=r"500 of 500 are missing\); give COCO val2014"):
        pope_benchmark(YesNoSettings(model="tiny", data=benchmarks / "pope", out=tmp_path, images=tmp_path))


def test_a_subset_has_something_of_all_parts_and_no_side() -> None:
    groups = {"many": list(range(100)), "few": list(range(3))}
    chosen, said = balanced_subset(groups, 23, "items")
    assert {name: len(items) for name, items in chosen.items()} == {"many": 20, "few": 3}
    assert said.startswith("23 of 103 items")
    assert 0 < sum(item % 2 for item in chosen["many"]) < 20
    assert chosen["many"] == sorted(set(chosen["many"]))
    assert balanced_subset(groups, None, "items") == ({"many": groups["many"], "few": groups["few"]}, None)
    with pytest.raises(ValueError, match="at least 2"):
        balanced_subset(groups, 1, "items")


def test_pope_killed_and_resumed_by_two_processes_asks_nothing_twice(
    benchmarks: Path, coco_images: Path, tmp_path: Path, killed: Any, recorded: Any
) -> None:
    words = ["eval", "pope", "--model", "tiny"]
    words += ["--data", str(benchmarks / "pope"), "--images", str(coco_images)]
    words += ["--limit", "150", "--max-new-tokens", "4", "--batch-size", "8", "--device", "cpu"]
    whole = pope_benchmark(
        YesNoSettings(
            model="tiny",
            data=benchmarks / "pope",
            out=tmp_path / "whole",
            images=coco_images,
            limit=150,
            max_new_tokens=4,
        )
    )
    out = tmp_path / "run"
    killed(*words, "--out", str(out)).kill_when(lambda: len(recorded(out)) >= 8)
    before, kept = recorded(out), (out / "records-0.jsonl").read_bytes()
    assert 8 <= len(before) < len(whole.questions)
    said = killed(*words, "--out", str(out), world_size=2).finish()
    after = recorded(out)
    assert len(after) == len(set(after)) == len(whole.questions)
    assert set(before) < set(after)
    assert (out / "records-0.jsonl").read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert (out / "records-1.jsonl").stat().st_size > 0
    (result,) = run_benchmark(
        whole, Model(name="tiny", device="cpu", batch_size=8), tmp_path / "whole", Share()
    )
    assert said == f"{result.table()}\nresults: {out}\n"
    for name in ("pope-official-partial.json", "table.txt", "answers/coco_pope_popular.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_run_is_not_mixed_in(benchmarks: Path, coco_images: Path, tmp_path: Path) -> None:
    def run(limit: int, **settings: Any) -> None:
        benchmark = pope_benchmark(
            YesNoSettings(
                model="tiny", data=benchmarks / "pope", out=tmp_path, images=coco_images, limit=limit
            )
        )
        run_benchmark(benchmark, echo_model(lambda asked: "yes", **settings), tmp_path, Share())

    run(30)
    model_asked_again = echo_model(lambda asked: "no")
    benchmark = pope_benchmark(
        YesNoSettings(model="tiny", data=benchmarks / "pope", out=tmp_path, images=coco_images, limit=30)
    )
    run_benchmark(benchmark, model_asked_again, tmp_path, Share())
    assert model_asked_again.policy.asked == []
    with pytest.raises(
        ValueError, match=r"contains another run .*batch size was 64, is 32.*give a new --out"
    ):
        run(30, batch_size=32)
    with pytest.raises(ValueError, match="subset was '30 of"):
        run(60)


def test_ctrl_c_ends_after_the_batch_and_says_how_to_go_on(
    benchmarks: Path, coco_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Any
) -> None:
    policy = Echo(lambda asked: "yes")

    def interrupted(request: TextSampling) -> Any:
        if len(policy.asked) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return Echo.sample_text(policy, request)

    policy.sample_text = interrupted
    monkeypatch.setattr(model, "load_model", lambda *given, **settings: policy)
    words = ["eval", "pope", "--model", "tiny"]
    words += ["--data", str(benchmarks / "pope"), "--images", str(coco_images)]
    words += ["--limit", "60", "--batch-size", "10", "--device", "cpu", "--out", str(tmp_path / "run")]
    stopped = CliRunner().invoke(app, words)
    assert stopped.exit_code == 130
    assert f"finished items are in {tmp_path / 'run'}, the same command resumes" in stopped.output
    assert len(recorded(tmp_path / "run")) == 20
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    assert len(policy.asked) == len(recorded(tmp_path / "run")) == 60
