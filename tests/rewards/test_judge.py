"""The judge with a server that scores the images it receives, and that misbehaves."""

from __future__ import annotations

import base64
import json
import time
import traceback
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chat_server import Ask, ChatServer
from pairuni.config import JudgeSettings, RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError
from pairuni.rewards.judge import JudgeReward
from pairuni.rewards.registry import image_reward

KEY = "sk-proj-0123456789-very-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def records(count: int, **more: Any) -> list[Annotation]:
    return [
        Annotation(
            image_path=f"{i}.png", prompt=f"a red square {i}", question="q", answer="a", id=f"s{i}", **more
        )
        for i in range(count)
    ]


def images(reds: Sequence[int]) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (red, 0, 0)) for red in reds]


def shown(ask: Ask) -> Image.Image:
    url = ask.body["messages"][-1]["content"][0]["image_url"]["url"]
    return Image.open(BytesIO(base64.b64decode(url.partition(";base64,")[2])))


def redness(ask: Ask) -> dict[str, Any]:
    return {"reason": "looked", "score": shown(ask).getpixel((0, 0))[0] / 25.5}


def judge(server: ChatServer, **settings: Any) -> JudgeReward:
    given = {"model": "seer", "base_url": server.url, "timeout": 5.0, **settings}
    return JudgeReward(JudgeSettings(**given), backoff=0.01)


def test_every_image_gets_its_own_score_in_order() -> None:
    reds = [0, 255, 51, 102, 0, 204, 153]
    with ChatServer(reply=redness, seconds=0.05) as server:
        reward = judge(server, concurrency=3, temperature=0.0)
        scores = reward(records(7), images(reds))
    assert scores == pytest.approx([red / 25.5 for red in reds])
    assert server.most_at_once == 3
    assert (reward.name, reward.range, reward.needs) == ("judge", (0.0, 10.0), ("prompt",))
    assert len(server.asks) == 7
    for ask in server.asks:
        assert ask.headers["authorization"] == f"Bearer {KEY}"
        assert (ask.body["model"], ask.body["temperature"]) == ("seer", 0.0)
        schema = ask.body["response_format"]["json_schema"]["schema"]
        assert schema["properties"] == {"reason": {"type": "string"}, "score": {"type": "number"}}
        assert "Prompt: a red square" in ask.text
        assert '"score": a number from 0 to 10' in ask.text
        assert "{" not in ask.text.partition("Reply as JSON:")[0]


def test_a_custom_rubric_with_its_range_and_the_fields_of_records(tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.txt"
    rubric.write_text('Style {style} for {prompt}, from {lowest} to {highest}; no {"braces": 1}.\n')
    with ChatServer(reply=lambda ask: {"score": -1.5}) as server:
        reward = judge(server, rubric=rubric, lowest=-2.0, highest=2.0, image_side=32)
        (one,) = records(1, style="of {answer}")
        assert reward([one], [Image.new("RGB", (100, 50))]) == [-1.5]
        assert (reward.range, reward.needs) == ((-2.0, 2.0), ("style", "prompt"))
        assert server.asks[0].text.startswith(
            'Style of {answer} for a red square 0, from -2 to 2; no {"braces": 1}.\n'
        )
        assert shown(server.asks[0]).size == (32, 16)
        with pytest.raises(
            RewardError, match=r"rubric of reward 'judge' names \{style\}, .* sample s0, 0\.png"
        ):
            reward(records(1), images([0]))
        assert len(server.asks) == 1


@pytest.mark.parametrize(
    "said",
    [
        'Well: {"reason": "so", "score": "7"} and that is it.',
        '<think>{"score": 1}</think>```json\n{"reason": "so",\n "score": 7.0}\n```',
        "Reason: mostly right.\n**Score:** 7",
    ],
)
def test_scores_in_many_forms(said: str) -> None:
    with ChatServer(reply=lambda ask: {}, rename=lambda _: said) as server:
        assert judge(server)(records(2), images([0, 1])) == [7.0, 7.0]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('{"reason": "so", "score": 11}', "the score 11 is not from 0 to 10"),
        ('{"reason": "so", "score": NaN}', "the score nan is not from 0 to 10"),
        ('{"reason": "so", "score": true}', "the reply's score is wrong (value error, must be a number)"),
        ('{"reason": "so"}', "the reply's score is missing"),
        ("I like it.", "the reply is not whole JSON: 'I like it.'"),
    ],
)
def test_a_reply_without_a_score_is_requested_again_with_the_reason_then_reported(
    said: str, reason: str
) -> None:
    def rename(values: dict[str, Any]) -> str:
        return json.dumps(values) if values["again"] else said

    good = {"reason": "", "score": 3, "again": True}
    with ChatServer(reply=lambda ask: {**good, "again": reason in ask.text}, rename=rename) as server:
        assert judge(server)(records(1), images([0])) == [3.0]
        assert len(server.asks) == 2
    with (
        ChatServer(reply=lambda ask: {}, rename=lambda _: said) as server,
        pytest.raises(
            RewardError, match=r"'judge' has no score for sample s0, 0\.png .* after 3 replies"
        ) as caught,
    ):
        judge(server)(records(1), images([0]))
    assert str(caught.value).endswith(reason)
    assert len(server.asks) == 3


def test_temporary_failures_of_the_endpoint_are_retried() -> None:
    kinds = ["429", "500", "drop", "cut envelope"]

    def misbehave(ask: Ask) -> str | None:
        return kinds[ask.serial % 4] if ask.delivery == 1 else None

    with ChatServer(misbehave, reply=redness) as server:
        assert judge(server)(records(8), images(range(0, 200, 25))) == pytest.approx(
            [red / 25.5 for red in range(0, 200, 25)]
        )
    assert len(server.asks) == 16


def test_a_server_without_structured_outputs() -> None:
    def old(ask: Ask) -> str | None:
        return "status 400 response_format is not supported" if "response_format" in ask.body else None

    with ChatServer(old, reply=redness) as server:
        assert judge(server, concurrency=1)(records(3), images([255] * 3)) == [10.0] * 3
    assert len(server.asks) == 5


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("status 413 too large", "the endpoint says 413: too large"),
        (f"status 401 not {KEY}", "the endpoint says 401: not ***; is the key in the environment variable"),
        ("status 404 no such model", r"check reward.judge.base_url"),
        ("500", "gave no answer in 2 attempts, the last: the endpoint says 500: oh no"),
        ("hang", "gave no answer in 2 attempts, the last: no answer within 0.3 seconds"),
        ("refuse", "the model refused: 'I cannot help with that image.'"),
        ("html", "should reward.judge.base_url end in /v1?"),
    ],
)
def test_a_failure_names_the_sample_and_stops_the_rest(fault: str, reason: str) -> None:
    def misbehave(ask: Ask) -> str | None:
        return fault if "square 5" in ask.text else None

    before = time.monotonic()
    with ChatServer(misbehave, reply=redness) as server:
        if fault == "html":
            server.url = server.url.removesuffix("/v1")
        reward = judge(server, max_retries=1, timeout=0.3 if fault == "hang" else 5.0, concurrency=2)
        with pytest.raises(RewardError, match=r"reward 'judge' .* sample s5, 5\.png") as caught:
            reward(records(60), images([0] * 60))
    assert reason in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(server.asks) < 25
    assert time.monotonic() - before < 20


class Empty(ChatServer):
    """Replies with its text elsewhere, the first ``times`` times."""

    times = 10**9

    def _completion(self, ask: Ask, content: str | None, finish: str = "stop") -> dict[str, Any]:
        body = super()._completion(ask, content, finish)
        if ask.serial < self.times:
            body["choices"][0]["message"] = {"content": None, "reasoning_content": content}
        return body


def test_an_empty_reply_is_requested_again_then_reported() -> None:
    with Empty(reply=redness) as server:
        server.times = 2
        assert judge(server)(records(1), images([255])) == [10.0]
        assert len(server.asks) == 3
    with (
        Empty(reply=redness) as server,
        pytest.raises(
            RewardError, match=r"sample s0, .* sent an empty reply, with its text in reasoning_content"
        ),
    ):
        judge(server)(records(1), images([0]))


def test_invalid_settings_fail_immediately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"the reward judge needs a model: set reward\.judge\.model"):
        image_reward("judge")
    with pytest.raises(ValueError, match=r"reward\.judge\.lowest is 10, but must be below"):
        JudgeReward(JudgeSettings(model="m", lowest=10.0))
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such rubric"):
        JudgeReward(JudgeSettings(model="m", rubric=tmp_path / "none.txt"))
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ValueError, match="the rubric is empty"):
        JudgeReward(JudgeSettings(model="m", rubric=tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match=r"reward\.judge\.key_variable must be the name") as caught:
        image_reward("judge", RewardSettings(judge=JudgeSettings(model="m", key_variable=KEY)))
    assert KEY not in str(caught.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set"):
        JudgeReward(JudgeSettings(model="m"))
