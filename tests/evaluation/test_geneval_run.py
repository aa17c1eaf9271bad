"""GenEval from prompts to scores: images, detectors, resumed and shared runs."""

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import Killed, evaluate, model_of, recorded, run_alone, tiny
from PIL import Image

from pairuni.config import GenEvalSettings, ScoreSettings
from pairuni.distributed.shares import Share
from pairuni.evaluation.benchmark import Benchmark, run_benchmark
from pairuni.evaluation.geneval import GenEvalDetector, geneval_benchmark
from pairuni.evaluation.protocols.geneval_files import TASKS, Judged, read_results
from pairuni.evaluation.protocols.geneval_judging import read_folder
from pairuni.evaluation.result import slug
from pairuni.evaluation.tasks import score_files
from pairuni.rewards.composition.rules import Verdict
from pairuni.runs.models import load_model
from tiny_detectors import clip, mask2former

SMALL = ("--model", "tiny", "--device", "cpu", "--batch-size", "16")


@pytest.fixture
def data(benchmarks: Path) -> Path:
    return benchmarks / "geneval"


@pytest.fixture
def labels(data: Path) -> frozenset[str]:
    return frozenset(filter(None, (data / "object_names.txt").read_text().split("\n")))


def geneval(data: Path, out: Path, detector: GenEvalDetector | None = None, **settings: Any) -> Benchmark:
    return geneval_benchmark(GenEvalSettings(model="tiny", data=data, out=out, **settings), detector)


def test_two_processes_from_prompts_to_score(data: Path, labels: frozenset[str], tmp_path: Path) -> None:
    def rules(folder: Path, only: Collection[Path], share: Share) -> list[Judged] | None:
        assert len(only) == 24
        if share.rank > 0:
            return None
        found = []
        for path in sorted(folder.glob("*/metadata.jsonl")):
            metadata = json.loads(path.read_text())
            for number in range(2):
                image = path.parent / "samples" / f"{number:05d}.png"
                assert Image.open(image).mode == "RGB"
                found.append(Judged(str(image), metadata, Verdict(number == 0, ""), {}))
        return found

    def benchmark() -> Benchmark:
        return geneval(
            data, tmp_path, GenEvalDetector("rules of this test", labels, rules), samples=2, limit=12
        )

    models = [tiny(batch_size=8), model_of(load_model("tiny", device="cpu"), batch_size=8)]
    with ThreadPoolExecutor() as pool:  # stands for a second process
        second = pool.submit(run_benchmark, benchmark(), models[1], tmp_path, Share(1, 2))
        (result,) = run_benchmark(benchmark(), models[0], tmp_path, Share(0, 2))
        assert second.result() is None
    assert result.score == 50
    assert result.protocol == "official rules, partial (24 of 1,106)"
    assert {result.counts[task] for task in TASKS} == {4}
    assert result.settings["prompts"] == "original"
    assert result.settings["detector"] == "rules of this test"
    assert result.settings["guidance"] == models[0].policy.default_guidance
    assert len(read_results(tmp_path / "results-rules-of-this-test.jsonl")) == 24


def test_lost_images_are_generated_again_and_the_others_stay(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def generated() -> dict[Path, bytes]:
        assert run_alone(geneval(data, out, samples=2, limit=12), out) == []
        return {path: path.read_bytes() for path in sorted((out / "pictures").rglob("*.png"))}

    first = generated()
    records = (out / "records-0.jsonl").read_bytes()
    for path in list(first)[1::5]:
        path.unlink()
    assert generated() == first
    assert (out / "records-0.jsonl").read_bytes() == records


def test_only_the_prompts_of_the_run_are_judged(data: Path, labels: frozenset[str], tmp_path: Path) -> None:
    seen: list[set[Path]] = []

    def judge(folder: Path, only: Collection[Path], share: Share) -> list[Judged]:
        seen.append({one.path for one in read_folder(folder, labels, only)})
        return [Judged(tag, {"tag": tag, "prompt": tag}, Verdict(True, ""), {}) for tag in TASKS]

    out = tmp_path / "run"
    benchmark = geneval(data, out, GenEvalDetector("d", labels, judge), samples=1, limit=6)
    left = out / "pictures" / f"{int(benchmark.prompts[0].key):05d}" / "metadata.jsonl"
    (left.parent / "samples").mkdir(parents=True)
    (out / "run.json").write_text("{}")  # of a run that was killed before it recorded anything
    left.write_text('{"tag": "counting", "include": [], "prompt": "of another prompt file"}\n')
    Image.new("RGB", (8, 8)).save(
        left.parent / "samples" / "00001.png"
    )  # of a run with more images per prompt
    run_alone(benchmark, out)
    assert seen == [{path for prompt in benchmark.prompts for path in prompt.files}]
    assert json.loads(left.read_text())["prompt"] == benchmark.prompts[0].prompt


def test_a_detector_that_lacks_a_class_fails_before_any_image(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = evaluate("geneval", "--data", data, "--out", out, *SMALL, "--detector", "digits", code=1)
    assert "evaluation_metadata.jsonl, prompt" in said
    assert not out.exists()


def test_geneval_by_a_detector_of_transformers(data: Path, labels: frozenset[str], tmp_path: Path) -> None:
    out, detector = tmp_path / "run", mask2former(tmp_path / "detector", sorted(labels))
    words = ("--limit", 6, "--samples", 1, "--detector", detector, "--clip", clip(tmp_path / "clip"))
    said = evaluate("geneval", "--data", data, "--out", out, *SMALL, *words)
    assert "GenEval (official rules, partial (6 of 553))" in said
    judged = slug(f"{detector} + {tmp_path / 'clip'}")
    result = json.loads((out / f"geneval-official-rules-partial-{judged}.json").read_text())
    assert str(detector) in result["settings"]["detector"]
    assert len(list((out / "judged").glob("records-*.jsonl"))) == 1
    results = out / f"results-{judged}.jsonl"
    (again,) = score_files(ScoreSettings(task="geneval", paths=[results], judge="any"))
    assert again.parts == result["parts"]


@pytest.mark.parametrize("prompts", [24, pytest.param(553, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_and_generates_nothing_twice(data: Path, tmp_path: Path, prompts: int) -> None:
    out = tmp_path / "run"
    words = ("geneval", "--data", data, "--out", out, *SMALL, "--limit", prompts)
    Killed(tmp_path, *words).kill_when(lambda: len(recorded(out)) >= 4)
    before = recorded(out)
    written = {path: path.stat().st_mtime_ns for path in (out / "pictures").rglob("*.png")}
    assert 4 <= len(before) < prompts
    said = evaluate(*words)
    after = recorded(out)
    assert len(after) == len(set(after)) == prompts
    assert after[: len(before)] == before
    kept = {out / "pictures" / key / "samples" / f"{n:05d}.png" for key in before for n in range(4)}
    assert kept <= written.keys()
    assert all(path.stat().st_mtime_ns == written[path] for path in kept)
    assert sum(1 for _ in (out / "pictures").glob("*/samples/*.png")) == 4 * prompts
    official = (data / "evaluation_metadata.jsonl").read_text().splitlines()
    for key in after:
        metadata = (out / "pictures" / key / "metadata.jsonl").read_text()
        assert json.loads(metadata) == json.loads(official[int(key)])
    assert "evaluate_images.py" in said
    assert "--judge" in said
