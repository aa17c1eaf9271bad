"""WISE from prompts to scores: images, the judge behind an endpoint, its prompt and its temperature."""

import base64
import json
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import Killed, evaluate, recorded, run_alone, tiny
from PIL import Image

from chat_server import Ask, ChatServer
from pairuni.chat.endpoint import Endpoint
from pairuni.config import EndpointSettings, ScoreSettings, WISESettings
from pairuni.evaluation.benchmark import Benchmark
from pairuni.evaluation.protocols import wise
from pairuni.evaluation.protocols.wise_judge import JudgePrompt, own_prompt, read_prompt, verdict_in
from pairuni.evaluation.result import Result
from pairuni.evaluation.tasks import score_files
from pairuni.evaluation.wise import WiseJudge, wise_benchmark

SMALL = ("--model", "tiny", "--device", "cpu", "--batch-size", "16")


@pytest.fixture
def data(benchmarks: Path) -> Path:
    return benchmarks / "wise_legacy"


def texts(ask: Ask) -> str:
    return str(ask.body["messages"][-1]["content"][0]["text"])


def shown(ask: Ask) -> Image.Image:
    url = ask.body["messages"][-1]["content"][1]["image_url"]["url"]
    return Image.open(BytesIO(base64.b64decode(url.partition(";base64,")[2])))


def marks(ask: Ask) -> dict[str, Any]:
    """Marks that depend on what was asked."""
    consistency = len(texts(ask)) % 3
    return {"said": f"Consistency: {consistency}\nRealism: 1\nAesthetic Quality: 2"}


def judges(reply: Any = marks, *misbehave: Any, **more: Any) -> ChatServer:
    return ChatServer(*misbehave, reply=reply, rename=lambda values: str(values["said"]), **more)


def judged_by(
    server: ChatServer, data: Path, out: Path, protocol: wise.Protocol = "legacy", **settings: Any
) -> Benchmark:
    asked = EndpointSettings(model="seer", base_url=server.url, concurrency=4, temperature=0.0, max_retries=1)
    return wise_benchmark(
        WISESettings(model="tiny", data=data, out=out, protocol=protocol, **settings),
        WiseJudge(asked, Endpoint(asked, backoff=0.01), own_prompt(protocol)),
    )


def score(server: ChatServer, data: Path, out: Path, **settings: Any) -> Result:
    (result,) = run_alone(judged_by(server, data, out, **settings), out)
    return result


def test_a_run_killed_while_judging_pays_nothing_twice(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with judges(seconds=0.1) as server:
        words = ("wise", "--data", data, "--limit", 30, "--out", out, *SMALL)
        words += ("--judge", "seer", "--base-url", server.url, "--concurrency", 4)
        Killed(tmp_path, *words).kill_when(lambda: len(server.asks) >= 12)
        rows = (out / "judge.jsonl").read_text().split("\n")[:-1]
        paid = {server.asks[int(json.loads(row)["value"]["id"].partition("-")[2])].digest for row in rows}
        first = len(server.asks)
        assert first < 30
        generated = recorded(out)
        assert len(generated) == 30
        said = evaluate(*words)
        assert recorded(out) == generated
    assert not {ask.digest for ask in server.asks[first:]} & paid
    deliveries = Counter(ask.digest for ask in server.asks)
    assert len(deliveries) == 30
    assert sum(count - 1 for count in deliveries.values()) <= 4
    assert "WISE (legacy, pairuni judge prompt, partial (30 of 1,000))" in said
    result = json.loads((out / "wise-legacy-pairuni-judge-prompt-partial-seer.json").read_text())
    assert result["settings"]["judge"] == "seer"
    assert sum(result["counts"].values()) == 30
    scores = wise.read_scores((out / "judged" / "seer").glob("*_scores_results.jsonl"))
    assert {row["prompt_id"] for row in scores} == set(map(int, generated))
    mean = sum(wise.wiscore(row, "legacy") for row in scores if row["prompt_id"] <= 400) / 5
    assert result["parts"]["culture"] == pytest.approx(mean)


@pytest.mark.slow
def test_the_complete_wise_scores_as_its_official_files_do(data: Path, tmp_path: Path) -> None:
    with judges() as server:
        (result,) = run_alone(judged_by(server, data, tmp_path), tmp_path, tiny(batch_size=250))
        assert all(shown(ask).size == (32, 32) for ask in server.asks[:5])
    assert result.protocol == "legacy, pairuni judge prompt"
    files = sorted((tmp_path / "judged" / "seer").glob("*_scores_results.jsonl"))
    (again,) = score_files(ScoreSettings(task="wise", paths=files, judge="seer", protocol="legacy"))
    assert again.parts == result.parts
    full = (tmp_path / "judged" / "seer" / "natural_science_full_results.json").read_text()
    assert len(json.loads(full)) == 300


def test_replies_without_marks_are_requested_again_then_reported(data: Path, tmp_path: Path) -> None:
    def moody(ask: Ask) -> dict[str, Any]:
        if "Christmas" in texts(ask):
            return {"said": "I would rather not."}
        return {"said": "no"} if ask.delivery == 1 else marks(ask)

    changed, out = tmp_path / "data", tmp_path / "run"
    changed.mkdir()
    for path in data.glob("*.json"):
        (changed / path.name).write_text(path.read_text())
    chosen = wise_benchmark(WISESettings(model="tiny", data=changed, out=out, limit=6)).prompts
    rows = json.loads((changed / "cultural_common_sense.json").read_text())
    first = next(row for row in rows if str(row["prompt_id"]) in {prompt.key for prompt in chosen})
    first["Explanation"] = "Christmas"
    (changed / "cultural_common_sense.json").write_text(json.dumps(rows))
    with judges(moody) as server:
        with pytest.raises(
            RuntimeError, match=rf"1 of 6 .*by seer, the first prompt {first['prompt_id']}: no marks"
        ):
            score(server, changed, out, limit=6)
        assert Counter(ask.digest for ask in server.asks).most_common()[0][1] == 3
        asked = len(server.asks)
        assert asked == 5 * 2 + 3
        server.reply = marks
        assert sum(score(server, changed, out, limit=6).counts.values()) == 6
        assert len(server.asks) == asked + 1


def test_the_judge_prompt_of_wise_is_read_and_not_run(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match=r"\{Explanation\}"):
        read_prompt(tmp_path / "own.txt")


def test_an_official_judge_prompt_makes_the_official_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    official = JudgePrompt("s", "{Prompt} {Explanation}")
    monkeypatch.setattr("pairuni.evaluation.protocols.wise_judge.OFFICIAL", {official.digest: "legacy"})
    assert official.protocol("legacy") == "legacy"
    with pytest.raises(ValueError, match="WISE's legacy protocol"):
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


def test_verified_has_its_own_files(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match=r"cultural_common_sense_verified\.json: no such file"):
        wise_benchmark(WISESettings(model="tiny", data=data, out=out, protocol="verified"))
    for path in data.glob("*.json"):
        (tmp_path / f"{path.stem}_verified.json").write_text(path.read_text())
    with judges(lambda ask: {"said": "Score: 1"}) as server:
        result = score(server, tmp_path, out, protocol="verified", limit=12)
    assert result.score == 1
    assert result.protocol == "verified, pairuni judge prompt, partial (12 of 1,000)"


def test_a_missing_key_fails_before_any_image(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    said = evaluate("wise", "--data", data, "--out", tmp_path / "run", *SMALL, "--judge", "seer", code=1)
    assert "OPENAI_API_KEY is not set" in said
    assert not (tmp_path / "run").exists()


def test_a_judge_that_refuses_every_image_stops_the_run(data: Path, tmp_path: Path) -> None:
    with (
        judges(marks, lambda ask: "status 400 no images, please") as server,
        pytest.raises(RuntimeError, match=r"judge seer: 20 images got no marks, .*no images, please"),
    ):
        score(server, data, tmp_path, limit=24)


def test_the_temperature_of_a_judge_is_part_of_the_protocol(data: Path, tmp_path: Path) -> None:
    refused = "status 400 'temperature' does not support 0 with this model"
    with judges(marks, lambda ask: refused if "temperature" in ask.body else None) as server:
        for _ in range(2):  # the second run sends nothing and still knows
            result = score(server, data, tmp_path / "a", limit=6)
            assert result.protocol == (
                "legacy, pairuni judge prompt, judge temperature the server's own, partial (6 of 1,000)"
            )
            assert result.settings["judge temperature"] == "the server's own"
        assert sum("temperature" not in ask.body for ask in server.asks) == 6
        server.misbehave = lambda ask: None
        words = ("wise", "--data", data, "--limit", 6, "--judge", "seer", *SMALL, "--base-url", server.url)
        said = evaluate(*words, "--judge-temperature", 1, "--out", tmp_path / "b")
        assert "legacy, pairuni judge prompt, judge temperature 1, partial (6 of 1,000)" in said
        assert server.asks[-1].body["temperature"] == 1.0
        said = evaluate(*words, "--out", tmp_path / "c")
        assert "WISE (legacy, pairuni judge prompt, partial (6 of 1,000))" in said


def test_empty_replies_of_a_judge_are_not_stored(data: Path, tmp_path: Path) -> None:
    with judges(lambda ask: {"said": ""}) as server:
        with pytest.raises(
            RuntimeError, match=r"10 requests in a row got no answer, the last because .* an empty"
        ):
            score(server, data, tmp_path, limit=24)
        assert (tmp_path / "judge.jsonl").read_bytes() == b""
        server.reply = marks
        score(server, data, tmp_path, limit=24)
    assert len((tmp_path / "judge.jsonl").read_bytes().splitlines()) == 24
