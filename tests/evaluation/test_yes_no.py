import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import Echo, Killed, evaluate, model_of, recorded, run_alone, tiny
from PIL import Image

from pairuni.config import ScoreSettings, YesNoSettings
from pairuni.evaluation.benchmark import Benchmark, balanced_subset
from pairuni.evaluation.protocols import mme, pope
from pairuni.evaluation.tasks import score_files
from pairuni.evaluation.yes_no import mme_benchmark, pope_benchmark
from pairuni.policies.requests import TextSampling


@pytest.fixture
def data(benchmarks: Path) -> Path:
    return benchmarks / "pope"


def pope_of(data: Path, images: Path, out: Path, **settings: Any) -> Benchmark:
    return pope_benchmark(YesNoSettings(model="tiny", data=data, out=out, images=images, **settings))


@pytest.fixture
def mme_images(benchmarks: Path, tmp_path: Path) -> Path:
    for category, rows in mme.read_questions(benchmarks / "mme" / "LaVIN").items():
        (tmp_path / "mme" / category).mkdir(parents=True)
        for row in rows:
            Image.new("RGB", (8, 8)).save(tmp_path / "mme" / category / row.image)
    return tmp_path / "mme"


def test_pope_asks_each_question_once_with_the_prompt_of_janus(
    data: Path, coco_images: Path, tmp_path: Path
) -> None:
    benchmark = pope_of(data, coco_images, tmp_path)
    assert len(benchmark.questions) == 5127
    assert benchmark.subset is None
    truths = {
        f"{q.text}|{q.image}": q.truth
        for split in pope.SPLITS
        for q in pope.read_questions(data / f"coco_pope_{split}.json")
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
    again = score_files(ScoreSettings(task="pope", paths=[tmp_path / "answers"], data=data))
    assert again[0].parts == result.parts


def test_mme_writes_the_files_that_it_is_scored_by(
    benchmarks: Path, mme_images: Path, tmp_path: Path
) -> None:
    lavin = mme.read_answers(benchmarks / "mme" / "LaVIN")
    by_question = {row.question: row.reply for rows in lavin.values() for row in rows}
    out = tmp_path / "run"
    benchmark = mme_benchmark(
        YesNoSettings(model="tiny", data=benchmarks / "mme" / "LaVIN", out=out, images=mme_images, limit=140)
    )
    assert len(benchmark.questions) == 280
    policy = Echo(lambda asked: by_question[asked.partition("\n")[0]])
    results = run_alone(benchmark, out, model_of(policy, batch_size=50))
    assert [result.benchmark for result in results] == ["MME-Perception", "MME-Cognition"]
    assert results[0].protocol == "official, partial (200 of 2,114)"
    assert "140 of 1,187 pictures" in results[0].settings["subset"]
    assert set(results[0].counts.values()) == {20, 0}
    written = score_files(ScoreSettings(task="mme", paths=[out / "answers"]))
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


def test_missing_files_are_named_with_their_source(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"coco_pope_random\.json: no such file; .*github"):
        pope_benchmark(YesNoSettings(model="tiny", data=tmp_path, out=tmp_path))
    with pytest.raises(FileNotFoundError, match=r"500 of 500 are missing\); give COCO val2014"):
        pope_of(data, tmp_path, tmp_path)


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


def test_a_killed_run_resumes_in_two_processes_and_asks_nothing_twice(
    data: Path, coco_images: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = ("pope", "--model", "tiny", "--data", data, "--images", coco_images, "--out", out)
    words += ("--limit", 60, "--max-new-tokens", 4, "--batch-size", 8, "--device", "cpu")
    benchmark = pope_of(data, coco_images, whole, limit=60, max_new_tokens=4)
    Killed(tmp_path, *words).kill_when(lambda: len(recorded(out)) >= 8)
    before, kept = recorded(out), (out / "records-0.jsonl").read_bytes()
    assert 8 <= len(before) < len(benchmark.questions)
    said = Killed(tmp_path, *words, world_size=2).finish()
    after = recorded(out)
    assert len(after) == len(set(after)) == len(benchmark.questions)
    assert set(before) < set(after)
    assert (out / "records-0.jsonl").read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert (out / "records-1.jsonl").stat().st_size > 0
    (result,) = run_alone(benchmark, whole, tiny(batch_size=8))
    assert said == f"{result.table()}\nresults: {out}\n"
    for name in ("pope-official-partial.json", "table.txt", "answers/coco_pope_popular.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_keeps_to_one_run(data: Path, coco_images: Path, tmp_path: Path) -> None:
    def run(policy: Echo, limit: int = 30, **settings: Any) -> None:
        run_alone(pope_of(data, coco_images, tmp_path, limit=limit), tmp_path, model_of(policy, **settings))

    run(Echo(lambda asked: "yes"))
    again = Echo(lambda asked: "no")
    run(again)
    assert again.asked == []
    with pytest.raises(
        ValueError, match=r"contains another run .*batch size was 64, is 32.*give a new --out"
    ):
        run(again, batch_size=32)
    with pytest.raises(ValueError, match="subset was '30 of"):
        run(again, limit=60)


def test_a_recipe_interrupted_and_resumed_by_the_recipe_that_the_run_wrote(
    data: Path, coco_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, out = Echo(lambda asked: "yes"), tmp_path / "run"

    def interrupted(request: TextSampling) -> Any:
        if len(policy.asked) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return Echo.sample_text(policy, request)

    policy.sample_text = interrupted  # type: ignore[method-assign]
    monkeypatch.setattr("pairuni.evaluation.model.load_model", lambda *given, **settings: policy)
    recipe = tmp_path / "pope.toml"
    recipe.write_text(
        f'model = "tiny"\ndevice = "cpu"\ndata = "{data}"\nimages = "{coco_images}"\n'
        f'out = "{out}"\nlimit = 600\nbatch-size = 10\n'
    )
    said = evaluate("pope", recipe, "--limit", 60, code=130)  # an option overrides the recipe
    assert f"finished items are in {out}, the same command resumes" in said
    assert len(recorded(out)) == 20
    assert f"results: {out}" in evaluate("pope", out / "config.toml")
    assert len(policy.asked) == len(recorded(out)) == 60
    assert json.loads((out / "run.json").read_text())["batch size"] == 10
    recipe.write_text("limt = 60\n")
    assert f"{recipe}: limt" in evaluate("pope", recipe, code=1)
