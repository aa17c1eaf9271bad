import base64
import json
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from chat_server import Ask, ChatServer
from pairuni.chat.endpoint import Endpoint
from pairuni.cli.app import app
from pairuni.config import EndpointSettings, GenEvalSettings, ScoreSettings, WISESettings
from pairuni.distributed.shares import Share
from pairuni.evaluation.benchmark import Benchmark, run_benchmark
from pairuni.evaluation.model import Model
from pairuni.evaluation.protocols import wise
from pairuni.evaluation.protocols.geneval_files import TASKS, Judged, read_results
from pairuni.evaluation.protocols.geneval_judging import read_folder
from pairuni.evaluation.protocols.wise_judge import JudgePrompt, own_prompt, read_prompt, verdict_in
from pairuni.evaluation.result import slug
from pairuni.evaluation.tasks import score_files
from pairuni.evaluation.text_to_image import GenEvalDetector, WiseJudge, geneval_benchmark, wise_benchmark
from pairuni.rewards.composition.rules import Verdict
from tiny_detectors import clip, mask2former

SMALL = ["--model", "tiny", "--device", "cpu", "--batch-size", "16"]


def tiny() -> Model:
    return Model(name="tiny", device="cpu", batch_size=32)


def texts(ask: Ask) -> str:
    return str(ask.body["messages"][-1]["content"][0]["text"])


def picture(ask: Ask) -> Image.Image:
    url = ask.body["messages"][-1]["content"][1]["image_url"]["url"]
    return Image.open(BytesIO(base64.b64decode(url.partition(";base64,")[2])))


def marks(ask: Ask) -> dict[str, Any]:
    """Marks that depend on what was asked."""
    consistency = len(texts(ask)) % 3
    return {"said": f"Consistency: {consistency}\nRealism: 1\nAesthetic Quality: 2"}


def said(reply: dict[str, Any]) -> str:
    return str(reply["said"])


def judged_by(server: ChatServer, prompt: JudgePrompt | None = None) -> WiseJudge:
    settings = EndpointSettings(
        model="seer", base_url=server.url, concurrency=4, temperature=0.0, max_retries=1
    )
    return WiseJudge(settings, Endpoint(settings, backoff=0.01), prompt or own_prompt("legacy"))


def test_geneval_from_prompts_to_score(benchmarks: Path, tmp_path: Path) -> None:
    labels = frozenset((benchmarks / "geneval" / "object_names.txt").read_text().split("\n"))

    def rules(folder: Path, only: Collection[Path], share: Share) -> list[Judged] | None:
        assert len(only) == 48
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
        detector = GenEvalDetector("rules of this test", labels, rules)
        return geneval_benchmark(
            GenEvalSettings(model="tiny", data=benchmarks / "geneval", out=tmp_path, samples=2, limit=24),
            detector=detector,
        )

    models = [tiny(), tiny()]
    for model in models:
        # loaded here, since threads that load models of transformers at the same time disturb each other
        assert model.policy is not None
    with ThreadPoolExecutor() as pool:  # stands for a second process
        second = pool.submit(run_benchmark, benchmark(), models[1], tmp_path, Share(1, 2))
        (result,) = run_benchmark(benchmark(), models[0], tmp_path, Share(0, 2))
        assert second.result() is None
    assert result.score == 50
    assert result.protocol == "official rules, partial (48 of 1,106)"
    assert {result.counts[task] for task in TASKS} == {8}
    assert result.settings["prompts"] == "original"
    assert result.settings["detector"] == "rules of this test"
    assert result.settings["guidance"] == tiny().policy.default_guidance
    assert len(read_results(tmp_path / "results-rules-of-this-test.jsonl")) == 48


def test_images_that_are_gone_are_drawn_again_and_others_stay(benchmarks: Path, tmp_path: Path) -> None:
    def drawn() -> dict[Path, bytes]:
        benchmark = geneval_benchmark(
            GenEvalSettings(
                model="tiny", data=benchmarks / "geneval", out=tmp_path / "run", samples=2, limit=12
            )
        )
        assert run_benchmark(benchmark, tiny(), tmp_path / "run", Share()) == []
        return {path: path.read_bytes() for path in sorted((tmp_path / "run/pictures").rglob("*.png"))}

    first = drawn()
    records = (tmp_path / "run/records-0.jsonl").read_bytes()
    for path in list(first)[1::5]:
        path.unlink()
    assert drawn() == first
    assert (tmp_path / "run/records-0.jsonl").read_bytes() == records


def test_only_the_prompts_of_the_run_are_judged(benchmarks: Path, tmp_path: Path) -> None:
    seen: list[set[Path]] = []

    def judge(folder: Path, only: Collection[Path], share: Share) -> list[Judged]:
        seen.append({one.path for one in read_folder(folder, labels, only)})
        return [Judged(tag, {"tag": tag, "prompt": tag}, Verdict(True, ""), {}) for tag in TASKS]

    labels = frozenset((benchmarks / "geneval" / "object_names.txt").read_text().split("\n"))
    detector = GenEvalDetector("d", labels, judge)
    benchmark = geneval_benchmark(
        GenEvalSettings(model="tiny", data=benchmarks / "geneval", out=tmp_path / "run", samples=1, limit=6),
        detector=detector,
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")  # killed before anything was recorded
    number = int(benchmark.prompts[0].key)
    left = tmp_path / "run" / "pictures" / f"{number:05d}" / "metadata.jsonl"
    left.parent.mkdir(parents=True)
    left.write_text('{"tag": "counting", "include": [], "prompt": "of another prompt file"}\n')
    more = left.parent / "samples" / "00001.png"  # of a run that drew more of each
    more.parent.mkdir()
    Image.new("RGB", (8, 8)).save(more)
    run_benchmark(benchmark, tiny(), tmp_path / "run", Share())
    assert seen == [{path for draw in benchmark.prompts for path in draw.files}]
    assert json.loads(left.read_text())["prompt"] == benchmark.prompts[0].prompt


def test_a_detector_that_lacks_a_class_is_told_before_anything_is_drawn(
    benchmarks: Path, tmp_path: Path
) -> None:
    words = ["eval", "geneval", "--data", str(benchmarks / "geneval"), "--out", str(tmp_path / "run"), *SMALL]
    ended = CliRunner().invoke(app, [*words, "--limit", "6", "--detector", "digits"])
    assert ended.exit_code == 1
    assert "evaluation_metadata.jsonl, prompt" in ended.output
    assert not (tmp_path / "run").exists()


def test_geneval_by_a_detector_of_transformers(benchmarks: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["eval", "geneval", "--data", str(benchmarks / "geneval"), "--out", str(out), *SMALL]
    names = (benchmarks / "geneval" / "object_names.txt").read_text().split("\n")
    detector = mask2former(tmp_path / "detector", [name for name in names if name])
    words += ["--limit", "6", "--samples", "1", "--detector", str(detector)]
    ended = CliRunner().invoke(app, [*words, "--clip", str(clip(tmp_path / "clip"))])
    assert ended.exit_code == 0, ended.output
    assert "GenEval (official rules, partial (6 of 553))" in ended.output
    judged = slug(f"{detector} + {tmp_path / 'clip'}")
    result = json.loads((out / f"geneval-official-rules-partial-{judged}.json").read_text())
    assert str(detector) in result["settings"]["detector"]
    assert len(list((out / "judged").glob("records-*.jsonl"))) == 1
    (again,) = score_files(
        ScoreSettings(task="geneval", paths=[out / f"results-{judged}.jsonl"], judge="any")
    )
    assert again.parts == result["parts"]


@pytest.mark.parametrize("prompts", [60, pytest.param(553, marks=pytest.mark.slow)])
def test_geneval_killed_and_resumed_draws_nothing_twice(
    benchmarks: Path, tmp_path: Path, killed: Any, recorded: Any, prompts: int
) -> None:
    out = tmp_path / "run"
    words = ["eval", "geneval", "--data", str(benchmarks / "geneval"), "--out", str(out), *SMALL]
    words += ["--limit", str(prompts)]
    killed(*words).kill_when(lambda: len(recorded(out)) >= 4)
    before = recorded(out)
    drawn = {path: path.stat().st_mtime_ns for path in (out / "pictures").rglob("*.png")}
    assert 4 <= len(before) < prompts
    told = killed(*words).finish()
    after = recorded(out)
    assert len(after) == len(set(after)) == prompts
    assert after[: len(before)] == before
    kept = {out / "pictures" / key / "samples" / f"{n:05d}.png" for key in before for n in range(4)}
    assert kept <= drawn.keys()
    assert all(path.stat().st_mtime_ns == drawn[path] for path in kept)
    assert sum(1 for _ in (out / "pictures").glob("*/samples/*.png")) == 4 * prompts
    official = (benchmarks / "geneval" / "evaluation_metadata.jsonl").read_text().splitlines()
    for key in after:
        written = (out / "pictures" / key / "metadata.jsonl").read_text()
        assert json.loads(written) == json.loads(official[int(key)])
    assert "evaluate_images.py" in told
    assert "--judge" in told


def test_wise_killed_while_judging_and_resumed_pays_nothing_twice(
    benchmarks: Path, tmp_path: Path, killed: Any, recorded: Any
) -> None:
    out = tmp_path / "run"
    words = ["eval", "wise", "--model", "tiny"]
    words += ["--data", str(benchmarks / "wise_legacy"), "--limit", "60", "--out", str(out)]
    with ChatServer(reply=marks, rename=said, seconds=0.1) as server:
        words += [*SMALL, "--judge", "seer", "--base-url", server.url, "--concurrency", "4"]
        killed(*words).kill_when(lambda: len(server.asks) >= 20)
        stored = [
            json.loads(row)["value"]["id"] for row in (out / "judge.jsonl").read_text().split("\n")[:-1]
        ]
        paid = {server.asks[int(one.partition("-")[2])].digest for one in stored}
        first = len(server.asks)
        assert first < 60
        drawn = recorded(out)
        told = killed(*words).finish()
        assert recorded(out) == drawn
        assert len(drawn) == 60
    assert not {ask.digest for ask in server.asks[first:]} & paid
    deliveries = Counter(ask.digest for ask in server.asks)
    assert len(deliveries) == 60
    assert sum(count - 1 for count in deliveries.values()) <= 4
    assert "WISE (legacy, pairuni judge prompt, partial (60 of 1,000))" in told
    result = json.loads((out / "wise-legacy-pairuni-judge-prompt-partial-seer.json").read_text())
    assert result["settings"]["judge"] == "seer"
    assert sum(result["counts"].values()) == 60
    rows = wise.read_scores((out / "judged" / "seer").glob("*_scores_results.jsonl"))
    assert {row["prompt_id"] for row in rows} == set(map(int, drawn))
    mean = sum(wise.wiscore(row, "legacy") for row in rows if row["prompt_id"] <= 400) / 10
    assert result["parts"]["culture"] == pytest.approx(mean)


@pytest.mark.slow
def test_the_whole_of_wise_scores_as_its_official_files_do(benchmarks: Path, tmp_path: Path) -> None:
    with ChatServer(reply=marks, rename=said) as server:
        benchmark = wise_benchmark(
            WISESettings(model="tiny", data=benchmarks / "wise_legacy", out=tmp_path), judge=judged_by(server)
        )
        (result,) = run_benchmark(
            benchmark, Model(name="tiny", device="cpu", batch_size=250), tmp_path, Share()
        )
        assert all(picture(ask).size == (32, 32) for ask in server.asks[:5])
    assert result.protocol == "legacy, pairuni judge prompt"
    files = sorted((tmp_path / "judged" / "seer").glob("*_scores_results.jsonl"))
    (again,) = score_files(ScoreSettings(task="wise", paths=files, judge="seer", protocol="legacy"))
    assert again.parts == result.parts
    assert (
        len(json.loads((tmp_path / "judged" / "seer" / "natural_science_full_results.json").read_text()))
        == 300
    )


def test_replies_without_marks_are_asked_for_again_then_fail_by_name(
    benchmarks: Path, tmp_path: Path
) -> None:
    def moody(ask: Ask) -> dict[str, Any]:
        if "Christmas" in texts(ask):
            return {"said": "I would rather not."}
        return {"said": "no"} if ask.delivery == 1 else marks(ask)

    data = tmp_path / "data"
    data.mkdir()
    for path in (benchmarks / "wise_legacy").glob("*.json"):
        (data / path.name).write_text(path.read_text())
    chosen = wise_benchmark(WISESettings(model="tiny", data=data, out=tmp_path / "run", limit=6)).prompts
    rows = json.loads((data / "cultural_common_sense.json").read_text())
    first = next(row for row in rows if str(row["prompt_id"]) in {draw.key for draw in chosen})
    first["Explanation"] = "Christmas"
    (data / "cultural_common_sense.json").write_text(json.dumps(rows))
    with ChatServer(reply=moody, rename=said) as server:
        benchmark = wise_benchmark(
            WISESettings(model="tiny", data=data, out=tmp_path / "run", limit=6), judge=judged_by(server)
        )
        with pytest.raises(
            RuntimeError, match=rf"1 of 6 .*by seer, the first prompt {first['prompt_id']}: no marks"
        ):
            run_benchmark(benchmark, tiny(), tmp_path / "run", Share())
        assert Counter(ask.digest for ask in server.asks).most_common()[0][1] == 3
        asked = len(server.asks)
        assert asked == 5 * 2 + 3
        server.reply = marks
        (result,) = run_benchmark(benchmark, tiny(), tmp_path / "run", Share())
        assert len(server.asks) == asked + 1
    assert sum(result.counts.values()) == 6


def test_wise_s_own_judge_prompt_is_read_and_not_run(tmp_path: Path) -> None:
    script = tmp_path / "gpt_eval.py"
    script.write_text(
        "raise SystemExit('never run')\n"
        "def build_evaluation_messages(prompt_data, image_base64):\n"
        "    return [\n"
        "        {'role': 'system', 'content': [{'type': 'text', 'text': 'Be strict.'}]},\n"
        "        {'role': 'user', 'content': [\n"
        "            {'type': 'text', 'text': f\"P: {prompt_data['Prompt']}\\nE: {prompt_data['Explanation']}\"},\n"
        "            {'type': 'image_url', 'image_url': {'url': f'data:{image_base64}'}}]}]\n"
    )
    prompt = read_prompt(script)
    assert prompt == JudgePrompt("Be strict.", "P: {Prompt}\nE: {Explanation}")
    assert prompt.filled({"Prompt": "{Explanation}", "Explanation": "e"}) == "P: {Explanation}\nE: e"
    assert prompt.protocol("legacy") == "legacy, judge prompt of one's own"
    script.write_text("def other(): pass\n")
    with pytest.raises(ValueError, match="no judge prompt of WISE"):
        read_prompt(script)
    (tmp_path / "own.txt").write_text("Draw {Prompt}")
    with pytest.raises(ValueError, match=r"does not hold \{Explanation\}"):
        read_prompt(tmp_path / "own.txt")


def test_an_official_judge_prompt_makes_the_official_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    official = JudgePrompt("s", "{Prompt} {Explanation}")
    monkeypatch.setattr("pairuni.evaluation.protocols.wise_judge.OFFICIAL", {official.digest: "legacy"})
    assert official.protocol("legacy") == "legacy"
    with pytest.raises(ValueError, match="that of WISE's legacy protocol"):
        official.protocol("verified")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Score: 1", 1),
        ("**Score**: 0", 0),
        ("<think>Score: 1?</think>\nScore: 0", 0),
        ("1\n", 1),
        ("Score 1", 1),
        ("**Score:** 1.0", 1),
        ("Score: 1/1", 1),
        ('{"score": 0}', 0),
        ("0.0", 0),
        ("Score: 0.5", None),
        ("Score: 1/2", None),
        ("Score: 10", None),
        ("Score: 2", None),
        ("0\n1", None),
        ("fine", None),
    ],
)
def test_the_verdict_of_the_verified_protocol(reply: str, verdict: int | None) -> None:
    assert verdict_in(reply) == verdict


def test_verified_has_files_of_its_own(benchmarks: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cultural_common_sense_verified\.json: no such file"):
        wise_benchmark(
            WISESettings(model="tiny", data=benchmarks / "wise_legacy", out=tmp_path, protocol="verified")
        )
    for path in (benchmarks / "wise_legacy").glob("*.json"):
        (tmp_path / f"{path.stem}_verified.json").write_text(path.read_text())
    with ChatServer(reply=lambda ask: {"said": "Score: 1"}, rename=said) as server:
        judge = judged_by(server, own_prompt("verified"))
        benchmark = wise_benchmark(
            WISESettings(model="tiny", data=tmp_path, out=tmp_path / "run", protocol="verified", limit=12),
            judge=judge,
        )
        (result,) = run_benchmark(benchmark, tiny(), tmp_path / "run", Share())
    assert result.score == 1
    assert result.protocol == "verified, pairuni judge prompt, partial (12 of 1,000)"


def test_a_judge_that_cannot_be_asked_is_told_before_anything_is_drawn(
    benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    words = ["eval", "wise", "--model", "tiny"]
    words += ["--data", str(benchmarks / "wise_legacy"), "--out", str(tmp_path / "run")]
    ended = CliRunner().invoke(app, [*words, *SMALL, "--judge", "seer"])
    assert ended.exit_code == 1
    assert "OPENAI_API_KEY is not set" in ended.output
    assert not (tmp_path / "run").exists()


def test_a_judge_that_answers_nobody_stops_the_run(benchmarks: Path, tmp_path: Path) -> None:
    with ChatServer(lambda ask: "status 400 no images, please") as server:
        benchmark = wise_benchmark(
            WISESettings(model="tiny", data=benchmarks / "wise_legacy", out=tmp_path, limit=60),
            judge=judged_by(server),
        )
        with pytest.raises(RuntimeError, match=r"judge seer: 20 images got no marks, .*no images, please"):
            run_benchmark(benchmark, tiny(), tmp_path, Share())


def test_a_judge_s_temperature_is_a_part_of_the_protocol(benchmarks: Path, tmp_path: Path) -> None:
    refused = "status 400 'temperature' does not support 0 with this model"
    with ChatServer(
        lambda ask: refused if "temperature" in ask.body else None, reply=marks, rename=said
    ) as server:
        for _ in range(2):  # the second run asks nothing, and still knows
            benchmark = wise_benchmark(
                WISESettings(model="tiny", data=benchmarks / "wise_legacy", out=tmp_path / "a", limit=6),
                judge=judged_by(server),
            )
            (result,) = run_benchmark(benchmark, tiny(), tmp_path / "a", Share())
            assert result.protocol == (
                "legacy, pairuni judge prompt, judge temperature the server's own, partial (6 of 1,000)"
            )
            assert result.settings["judge temperature"] == "the server's own"
        assert sum("temperature" not in ask.body for ask in server.asks) == 6
        words = ["eval", "wise", "--model", "tiny"]
        words += ["--data", str(benchmarks / "wise_legacy"), "--limit", "6", "--judge", "seer"]
        words += [*SMALL, "--base-url", server.url, "--judge-temperature", "1"]
        server.misbehave = lambda ask: None
        ended = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "b")])
        assert "legacy, pairuni judge prompt, judge temperature 1, partial (6 of 1,000)" in ended.output
        assert server.asks[-1].body["temperature"] == 1.0
        ended = CliRunner().invoke(app, [*words[:-2], "--out", str(tmp_path / "c")])
        assert "WISE (legacy, pairuni judge prompt, partial (6 of 1,000))" in ended.output


def test_a_judge_s_empty_replies_are_not_stored(benchmarks: Path, tmp_path: Path) -> None:
    def run() -> None:
        benchmark = wise_benchmark(
            WISESettings(model="tiny", data=benchmarks / "wise_legacy", out=tmp_path, limit=24),
            judge=judged_by(server),
        )
        run_benchmark(benchmark, tiny(), tmp_path, Share())

    with ChatServer(reply=lambda ask: {"said": ""}, rename=said) as server:
        with pytest.raises(
            RuntimeError, match=r"10 requests in a row got no answer, the last because .* an empty"
        ):
            run()
        assert (tmp_path / "judge.jsonl").read_bytes() == b""
        server.reply = marks
        run()
    assert len((tmp_path / "judge.jsonl").read_bytes().splitlines()) == 24


def test_no_policy_edits() -> None:
    ended = CliRunner().invoke(app, ["eval", "imgedit"])
    assert ended.exit_code == 1
    assert "cannot edit images" in ended.output
