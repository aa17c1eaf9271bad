"""The reward remote against its own server and against servers that misbehave."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from commands import fails
from pairuni.config import RemoteSettings, RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.rewards.service.remote import RemoteError, RemoteReward
from pairuni.rewards.service.server import RewardServer
from pairuni.rewards.weighted import Term, WeightedReward
from reward_servers import (
    Act,
    Gated,
    Odd,
    Red,
    client,
    command,
    cut,
    drop,
    hang,
    images,
    inside,
    records,
    reply,
    serving,
    wait_until,
)

GOOD = reply(200, {"scores": [0.5]})

WEIGHED = '''
import time

class Weighed:
    """The red of an image's corner times the record's weight; only one thread may call it."""

    name = "weighed"
    range = (0.0, float("inf"))
    needs = ("weight",)
    inside = 0

    def __call__(self, records, samples):
        self.inside += 1
        assert self.inside == 1, "two threads in a reward"
        time.sleep(0.005)
        try:
            return [self.score(record, sample) for record, sample in zip(records, samples, strict=True)]
        finally:
            self.inside -= 1

    def score(self, record, sample):
        if record.prompt == "break":
            raise RuntimeError("cannot score this")
        assert sample.mode == "RGB"
        return sample.getpixel((0, 0))[0] * record.model_extra["weight"]["times"]
'''


def test_a_server_process_two_clients_at_once_and_a_large_batch(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WEIGHED)
    with command(tmp_path, "mine:Weighed") as (url, process):
        one, two = client(url, batch_size=7, concurrency=3), client(url, max_retries=1)
        assert (one.name, one.served, one.needs) == ("remote", "weighed", ("weight",))
        assert one.range == (0.0, float("inf"))
        with ThreadPoolExecutor(2) as pool:
            for scores in pool.map(lambda reward: reward(records(100), images(100)), (one, two)):
                assert scores == [float(i * i) for i in range(100)]
        assert one([], []) == []

        broken = [*records(20), *records(1, "break"), *records(9)]
        with pytest.raises(
            RewardError,
            match=r"reward 'remote' \(weighed\) failed .*reward 'weighed' failed on sample 0, 0\.png",
        ) as caught:
            one(broken, images(30))
        assert "prompt 'break'" in str(caught.value)
        assert "cannot score this" in str(caught.value)

        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        with pytest.raises(RewardError, match=r"in 2 attempts, the last: the connection broke"):
            two(records(3), images(3))


def test_a_shipped_reward_for_answers_with_a_token_and_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text(
        '[policy]\nmodel = "tiny"\n[data]\npairs = "p.jsonl"\n[reward.remote]\ntoken_variable = "MY_TOKEN"\n'
    )
    with command(tmp_path, "accuracy", "--recipe", "run.toml", MY_TOKEN="open-sesame") as (url, _):
        right = Annotation(image_path="a", prompt="p", question="how many?", answer="2")
        with pytest.raises(RewardError, match=r"replied 401; the token in MY_TOKEN"):
            client(url, token_variable="MY_TOKEN")([right], ["2"])
        monkeypatch.setenv("MY_TOKEN", "open-sesame\n")
        settings = RewardSettings(remote=RemoteSettings(url=url, token_variable="MY_TOKEN"))
        assert text_reward("remote", settings)([right, right], ["2", "3"]) == [1.0, 0.0]
        assert image_reward("0.5 * remote", settings)([right], ["2"]) == [0.5]


def test_the_command_says_what_is_wrong() -> None:
    assert "no reward is called 'nothing'; known: accuracy" in fails("serve-reward", "nothing")
    with RewardServer(Red(), ("127.0.0.1", 0)) as taken:
        assert "in use" in fails("serve-reward", "accuracy", "--port", taken.server_port)
    assert "set PAIRUNI_REWARD_TOKEN" in fails("serve-reward", "accuracy", "--host", "0.0.0.0")
    said = fails("serve-reward", "hpsv2", "--reward.hpsv2.chekpoint", "x")
    assert "--reward.hpsv2.chekpoint is not a setting" in said


def test_a_repeated_request_joins_the_one_in_progress() -> None:
    gated = Gated()
    with serving(gated) as (url, server):
        threading.Timer(1.0, gated.gate.set).start()
        hasty = RemoteReward(RemoteSettings(url=url, timeout=0.3, max_retries=9), backoff=0.02)
        assert hasty(records(2), images(2)) == [0.5, 0.5]
        assert gated.calls == 1
        # a reply that its client no longer waited for is kept for it; once delivered, the request is a new one
        gated.gate.clear()
        with pytest.raises(RewardError, match=r"no reply within 0\.3 seconds"):
            client(url, timeout=0.3, max_retries=0)(records(1), images(1))
        gated.gate.set()
        wait_until(lambda: server._service._scorer.waiting == 0)
        assert client(url)(records(1), images(1)) == [1.0]
        assert client(url)(records(1), images(1)) == [1.5]


def test_a_reward_that_hangs_does_not_block_later_requests() -> None:
    gated = Gated()
    summed = WeightedReward([Term(1.0, Red()), Term(1.0, gated)])
    with serving(summed, limit=0.2) as (url, _):
        with pytest.raises(RewardError, match=r"replied 422: reward 'gated' .* within 0\.2 seconds"):
            client(url)(records(1), images(1))
        gated.gate.set()
        assert client(url)(records(1), images(1)) == [0.5 * gated.calls]


def test_a_failure_that_was_not_delivered_is_scored_again() -> None:
    gated = Gated()
    with serving(gated, limit=0.3) as (url, server):
        with pytest.raises(RewardError, match=r"no reply within 0\.1 seconds"):
            client(url, timeout=0.1, max_retries=0)(records(1), images(1))
        wait_until(lambda: server._service._scorer is not None and server._service._scorer.waiting == 0)
        gated.gate.set()
        assert client(url)(records(1), images(1)) == [0.5 * gated.calls]


def test_a_long_reason_keeps_its_end() -> None:
    long = {"error": "failed on " + "a long prompt " * 99 + ": out of memory"}
    with (
        inside(Odd(reply(422, long))) as url,
        pytest.raises(RewardError, match=r"failed on a.*: out of memory$"),
    ):
        client(url)(records(1), images(1))


def test_this_machine_by_its_other_address() -> None:
    try:
        server = RewardServer(Red(), ("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with inside(server):
        assert server.url == f"http://[::1]:{server.server_port}"
        assert client(server.url)(records(1), images(1)) == [0.0]


@pytest.mark.parametrize("act", [reply(500, "oh no"), reply(503, {"error": "busy"}), drop, cut, hang])
def test_temporary_failures_are_retried(act: Act) -> None:
    server = Odd(act, act, GOOD)
    with inside(server) as url:
        assert client(url, timeout=0.3)(records(1), images(1)) == [0.5]
    assert server.requests == 3


def test_a_busy_server_is_retried_as_it_asks_without_using_up_attempts() -> None:
    server = Odd(*[reply(503, "", Retry_After="0")] * 5, GOOD)
    with inside(server) as url:
        assert client(url, max_retries=0)(records(1), images(1)) == [0.5]
    assert server.requests == 6


@pytest.mark.parametrize(
    ("act", "requests", "reason"),
    [
        (reply(500, "oh no"), 3, "in 3 attempts, the last: status 500: oh no"),
        (drop, 3, "in 3 attempts, the last: the connection broke"),
        (hang, 3, "in 3 attempts, the last: no reply within 0.3 seconds"),
        (reply(400, {"error": "what?"}), 1, "replied 400: what?"),
        (reply(404, "<html>nobody</html>"), 1, "replied 404: <html>nobody</html>"),
        (reply(429, {"error": "slowly"}), 1, "replied 429: slowly"),
        (reply(302, ""), 1, "replied 302"),
        (reply(200, "<html>"), 1, "its reply is not a JSON object"),
        (reply(200, {"scores": [1.0, 2.0]}), 1, "sent no list of 1 scores"),
        (reply(200, {"score": 1.0}), 1, "sent no list of 1 scores"),
    ],
)
def test_a_failure_names_the_reward_and_the_sample(act: Act, requests: int, reason: str) -> None:
    server = Odd(act)
    with inside(server) as url:
        reward = client(url, timeout=0.3, max_retries=2)
        with pytest.raises(
            RewardError, match=r"^reward 'remote' \(odd\) failed on sample 0, 0\.png "
        ) as caught:
            reward(records(1), images(1))
    assert reason in str(caught.value)
    assert server.requests == requests


def test_a_failed_request_of_several_stops_the_others() -> None:
    server = Odd(reply(400, {"error": "no"}))
    with inside(server) as url:
        reward = client(url, batch_size=2, concurrency=1)
        with pytest.raises(
            RewardError, match=r"failed on 2 samples from sample 0, 0\.png .* replied 400: no"
        ):
            reward(records(50), images(50))
    assert server.requests == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8100",
        "http://",
        "ftp://host",
        "http://x:99999",
        "http://[x",
        "http://x:port",
        "http://me:secret@host:1",
        "http://host/?token=secret",
    ],
)
def test_an_invalid_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"reward\.remote\.url .*must be like http") as caught:
        image_reward("remote", RewardSettings(remote=RemoteSettings(url=url)))
    assert "secret" not in str(caught.value)


def test_no_server_and_a_second_server() -> None:
    with inside(Odd(GOOD)) as url:
        pass
    with pytest.raises(RemoteError, match="in 1 attempt, the last: the connection broke"):
        client(url, max_retries=0)
    # docs/rewards.md shows this subclass for a second server
    with inside(Odd(reply(400, {"error": "no"}))) as url:

        class Elsewhere(RemoteReward):
            name = "elsewhere"

        with pytest.raises(RewardError, match=r"^reward 'elsewhere' \(odd\) failed"):
            Elsewhere(RemoteSettings(url=url))(records(1), images(1))


@pytest.mark.parametrize(
    "health",
    [
        {"status": "ok"},
        {"name": "odd", "range": [0, 10**400], "needs": []},
        {"name": "odd", "range": [1, 0], "needs": []},
        {"name": "odd", "range": [0, "x" * 100_000], "needs": []},
        {"name": "odd", "range": 3, "needs": []},
        {"name": ["odd"], "range": [0, 1], "needs": []},
        {"name": "odd", "range": [0, 1], "needs": [None]},
        {"name": "odd", "range": [0, 1], "needs": 5},
    ],
)
def test_a_health_that_is_not_of_a_reward_server(health: Any) -> None:
    with (
        inside(Odd(GOOD, health=health)) as url,
        pytest.raises(RemoteError, match="is not a reward server") as caught,
    ):
        client(url)
    assert len(str(caught.value)) < 1000
