"""ImgEdit from edits to marks: images by a policy that edits by a rule, a local judge, kills, errors."""

import base64
import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from benchmark_runs import Killed, evaluate, model_of, recorded, run_alone
from PIL import Image

from chat_server import Ask, ChatServer
from fake_editor import FakeEditor
from pairuni.chat.endpoint import Endpoint
from pairuni.config import EndpointSettings, ImgEditSettings, ScoreSettings
from pairuni.evaluation.imgedit import ImgEditJudge, imgedit_benchmark
from pairuni.evaluation.protocols.imgedit import TYPES
from pairuni.evaluation.protocols.imgedit_judge import JudgePrompts, read_judge_prompts
from pairuni.evaluation.result import Result
from pairuni.evaluation.tasks import score_files

PROMPTS = {name: f"Mark this {name} edit: <edit_prompt>." for name in TYPES}
EDITS = {
    str(100 + number): {
        "id": f"{name}/{number:03d}.png",
        "prompt": f"edit number {number}",
        "edit_type": name,
    }
    for number, name in enumerate([*TYPES, *TYPES])
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A basic_edit.json of 18 edits, two of each type, with small source images next to it."""
    folder = tmp_path / "imgedit"
    for number, edit in enumerate(EDITS.values()):
        path = folder / edit["id"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (10 * number, 0, 0)).save(path)
    (folder / "basic_edit.json").write_text(json.dumps(EDITS))
    (folder / "prompts.json").write_text(json.dumps(PROMPTS))
    return folder


def painted(image: Image.Image, instruction: str) -> Image.Image:
    """Green as the number of the instruction says, red as it was."""
    red = image.getpixel((0, 0))[0]
    return Image.new("RGB", image.size, (red, 10 * int(instruction.split()[-1]), 0))


def install(monkeypatch: pytest.MonkeyPatch, rule: Callable[[Image.Image, str], Image.Image]) -> FakeEditor:
    policy = FakeEditor(rule)
    for module in ("evaluation.model", "runs.models"):
        monkeypatch.setattr(f"pairuni.{module}.load_model", lambda *names, **settings: policy)
    return policy


def words(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "imgedit",
        "--model",
        "tiny",
        "--device",
        "cpu",
        "--data",
        data,
        "--out",
        out,
        "--batch-size",
        4,
        *more,
    )


def pictures(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "pictures").iterdir()}


def test_a_killed_run_resumes_and_edits_nothing_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    install(monkeypatch, painted)
    said = evaluate(*words(data, whole))
    assert f"images: {whole / 'pictures'}; to judge them: the same command with --judge MODEL" in said
    assert set(pictures(whole)) == {f"{key}.png" for key in EDITS}
    with Image.open(whole / "pictures" / "107.png") as image:
        assert image.getpixel((0, 0)) == (70, 70, 0)

    def slowly(image: Image.Image, instruction: str) -> Image.Image:
        time.sleep(0.03)
        return painted(image, instruction)

    install(monkeypatch, slowly)
    Killed(tmp_path, *words(data, out)).kill_when(lambda: len(recorded(out)) >= 8)
    before = recorded(out)
    assert 8 <= len(before) < 18
    policy = install(monkeypatch, painted)
    evaluate(*words(data, out))
    edited = [instruction for request in policy.requests for instruction in request.instructions]
    assert edited == [f"edit number {number}" for number in range(len(before), 18)]
    assert recorded(out) == list(EDITS)
    assert pictures(out) == pictures(whole)
    shared = tmp_path / "shared"
    Killed(tmp_path, *words(data, shared), world_size=2).finish()
    assert pictures(shared) == pictures(whole)


def reply(ask: Ask) -> dict[str, Any]:
    """Marks by what was asked; nothing readable for the first edit."""
    said = ask.body["messages"][-1]["content"][0]["text"]
    number = int(said.rstrip(".").split()[-1])
    if number == 0:
        return {"said": "I cannot tell."}
    mark = number % 5 + 1
    return {"said": f"Brief reasoning: so.\nPrompt Compliance: {mark}\nNaturalness: {mark}\nDetail: 1"}


def server_of(reply: Any = reply, *misbehave: Any) -> ChatServer:
    return ChatServer(*misbehave, reply=reply, rename=lambda values: str(values["said"]))


def judged(server: ChatServer, data: Path, out: Path, prompts: JudgePrompts, **settings: Any) -> Result:
    asked = EndpointSettings(model="seer", base_url=server.url, concurrency=4, max_retries=1, **settings)
    benchmark = imgedit_benchmark(
        ImgEditSettings(model="tiny", data=data, out=out),
        ImgEditJudge(asked, Endpoint(asked, backoff=0.01), prompts),
    )
    (result,) = run_alone(benchmark, out, model_of(FakeEditor(painted)))
    return result


def shown(part: dict[str, Any]) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(part["image_url"]["url"].partition(";base64,")[2])))


def test_the_judge_sees_text_original_and_edit_and_its_replies_are_official_files(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    install(monkeypatch, painted)
    with server_of() as server:
        more = ("--judge", "seer", "--base-url", server.url, "--judge-prompts", data / "prompts.json")
        said = evaluate(*words(data, out, *more))
        assert evaluate(*words(data, out, *more)).splitlines()[-2:] == said.splitlines()[-2:]
        assert len(server.asks) == 18
    by_text = {ask.body["messages"][-1]["content"][0]["text"]: ask.body for ask in server.asks}
    body = by_text["Mark this extract edit: edit number 11."]
    assert "temperature" not in body
    assert [message["role"] for message in body["messages"]] == ["user"]
    _, original, edited = body["messages"][-1]["content"]
    assert shown(original).getpixel((0, 0)) == (110, 0, 0)
    assert shown(edited).getpixel((0, 0)) == (110, 110, 0)

    path = out / "judged" / "seer" / "result.json"
    replies = json.loads(path.read_text())
    assert list(replies) == list(EDITS)
    assert replies["100"] == "I cannot tell."
    assert replies["102"] == "Brief reasoning: so.\nPrompt Compliance: 3\nNaturalness: 3\nDetail: 1"
    protocol = "official marks, micro, judge prompts of one's own, partial (18 of 737)"
    assert f"ImgEdit-Bench Basic ({protocol}): " in said
    (file,) = out.glob("imgedit-bench-basic-*.json")
    result = json.loads(file.read_text())
    # (1 + 2 m) / 3, rounded to two places, for m = number % 5 + 1
    marks = {1: 1.0, 2: 1.67, 3: 2.33, 4: 3.0, 5: 3.67}
    values = [marks[number % 5 + 1] for number in range(1, 18)]
    assert result["score"] == pytest.approx(sum(values) / 17)
    assert result["parts"]["adjust"] == pytest.approx((marks[2] + marks[1]) / 2)
    assert result["parts"]["add"] == pytest.approx(marks[5])
    assert (result["counts"]["marked"], result["counts"]["no mark"], result["counts"]["not judged"]) == (
        17,
        1,
        0,
    )
    assert result["settings"]["judge"] == "seer"
    assert result["settings"]["judge temperature"] == "the server's own"
    assert (result["settings"]["guidance"], result["settings"]["image guidance"]) == (3.5, 5.0)
    settings = ScoreSettings(task="imgedit", paths=[path], data=data / "basic_edit.json", judge="seer")
    (again,) = score_files(settings)
    assert again.parts == result["parts"]


def test_official_prompts_and_the_official_temperature_make_the_official_protocol(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = JudgePrompts(PROMPTS)
    monkeypatch.setattr("pairuni.evaluation.protocols.imgedit_judge.OFFICIAL", prompts.digest)
    refused = "status 400 'temperature' does not support 0.5 with this model"
    with server_of() as server:
        result = judged(server, data, tmp_path / "a", prompts)
        assert result.protocol == "official marks, micro, partial (18 of 737)"
        result = judged(server, data, tmp_path / "b", prompts, temperature=0.5)
        assert result.protocol == "official marks, micro, judge temperature 0.5, partial (18 of 737)"
        assert server.asks[-1].body["temperature"] == 0.5
        server.misbehave = lambda ask: refused if "temperature" in ask.body else None
        result = judged(server, data, tmp_path / "c", prompts, temperature=0.5)
        assert result.protocol == "official marks, micro, partial (18 of 737)"


def test_the_official_files(benchmarks: Path, tmp_path: Path) -> None:
    prompts = read_judge_prompts(benchmarks / "imgedit" / "prompts.json")
    assert prompts.official
    text = prompts.filled({"edit_type": "style", "prompt": "Make it a woodcut."})
    assert "editing instruction is : Make it a woodcut.." in text
    data = benchmarks / "imgedit"
    settings = ImgEditSettings(model="tiny", data=data, images=tmp_path, out=tmp_path / "run")
    with pytest.raises(
        FileNotFoundError, match=r"\.jpg: no such image \(\d+ of \d+ are missing\); .*--images"
    ):
        imgedit_benchmark(settings)
    for edit in json.loads((data / "basic_edit.json").read_text()).values():
        path = tmp_path / edit["id"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    benchmark = imgedit_benchmark(settings)
    assert len(benchmark.edits) == 737
    assert benchmark.edits[0].key == "1082"
    assert benchmark.edits[0].image == tmp_path / "animal" / "000342021.jpg"
    assert benchmark.edits[0].instruction == "Change the tortoise's shell texture to a smooth surface."
    assert benchmark.edits[0].file == tmp_path / "run" / "pictures" / "1082.png"
    part = imgedit_benchmark(settings.model_copy(update={"limit": 27}))
    assert len(part.edits) == 27
    assert part.subset == "27 of 737 edits, drawn evenly from all parts; not comparable with all of them"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"../1": EDITS["100"]}, r"basic_edit.json: the key '../1' cannot name an image"),
        (
            {"1": {**EDITS["100"], "id": "../a.png"}},
            r"edit 1: the id '../a.png' is outside the folder of images",
        ),
        ({"1": {**EDITS["100"], "id": "/etc/a.png"}}, r"edit 1: the id '/etc/a.png' is outside"),
        ({"1": {"id": "a.png", "edit_type": "add"}}, r"edit 1: lacks prompt"),
        ({"1": {**EDITS["100"], "id": "add/no.png"}}, r"no.png: no such image \(1 of 19 are missing\)"),
    ],
)
def test_faults_of_edits(data: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (data / "basic_edit.json").write_text(json.dumps({**EDITS, **change}))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        imgedit_benchmark(ImgEditSettings(model="tiny", data=data, out=tmp_path / "run"))


def test_an_image_that_cannot_be_read_is_named(data: Path, tmp_path: Path) -> None:
    (data / EDITS["105"]["id"]).write_text("no image")
    benchmark = imgedit_benchmark(ImgEditSettings(model="tiny", data=data, out=tmp_path / "run"))
    with pytest.raises(ValueError, match=r"edit 105: .*005\.png: cannot be read as an image"):
        run_alone(benchmark, tmp_path / "run", model_of(FakeEditor(painted)))


def test_faults_of_judge_prompts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, painted)
    run = words(data, tmp_path / "run", "--judge", "seer", "--base-url", "http://localhost:1/v1")
    assert "--judge-prompts is needed with --judge: Benchmark/Basic/prompts.json of" in evaluate(*run, code=1)
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({**PROMPTS, "style": "Mark it."}))
    said = evaluate(*run, "--judge-prompts", path, code=1)
    assert "prompts.json: the judge prompt style does not contain <edit_prompt>" in said
    path.write_text(json.dumps({name: text for name, text in PROMPTS.items() if name != "action"}))
    assert "prompts.json: lacks action" in evaluate(*run, "--judge-prompts", path, code=1)
    assert not (tmp_path / "run").exists()


def test_janus_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    said = evaluate(*words(tmp_path / "nowhere", tmp_path / "run"), code=1)
    assert "The policy tiny cannot edit images; choose a model that can, such as Lumina-DiMOO." in said
