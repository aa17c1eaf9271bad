"""The reward remote: against its own server in a process of its own, and against servers that misbehave."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pair_batches import REWARDS
from pairuni import __version__
from pairuni.config import RemoteSettings, RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.rewards.service import wire
from pairuni.rewards.service.remote import RemoteError, RemoteReward
from pairuni.rewards.service.server import RewardServer
from pairuni.rewards.service.wire import pack, unpack
from pairuni.rewards.weighted import Term, WeightedReward

MINE = '''
import time

class Weighed:
    """The red of an image's corner, times the record's own weight."""

    name = "weighed"
    range = (0.0, float("inf"))
    needs = ("weight",)

    def __init__(self):
        self.inside = 0

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

class Length:
    name = "length"

    def __call__(self, records, samples):
        return [float(len(sample)) for sample in samples]
'''


def records(count: int, prompt: str = "a thing") -> list[Annotation]:
    return [
        Annotation(image_path=f"{i}.png", prompt=prompt, question="q", answer="a", id=i, weight={"times": i})
        for i in range(count)
    ]


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (6, 4), (i % 256, 7, 9)) for i in range(count)]


@contextmanager
def serving(folder: Path, *words: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    (folder / "mine.py").write_text(MINE)
    process = subprocess.Popen(
        [sys.executable, "-m", "pairuni", "serve-reward", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "/score" in line, process.stderr.read() if process.stderr else ""
        yield line.split()[1].removesuffix("/score"), process
    finally:
        process.kill()
        process.wait()


def client(url: str, **settings: Any) -> RemoteReward:
    return RemoteReward(RemoteSettings(**{"url": url, "timeout": 20.0, **settings}), backoff=0.01)


def test_a_server_process_two_clients_at_once_and_a_large_batch(tmp_path: Path) -> None:
    with serving(tmp_path, "mine:Weighed", "--port", "0") as (url, process):
        one, two = client(url, batch_size=7, concurrency=3), client(url, max_retries=1)
        assert (one.name, one.served, one.needs) == ("remote", "weighed", ("weight",))
        assert one.range == (0.0, float("inf"))
        got: dict[str, list[float]] = {}
        threads = [
            threading.Thread(target=lambda n=name, c=c: got.update({n: c(records(100), pictures(100))}))
            for name, c in (("one", one), ("two", two))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got["one"] == got["two"] == [float(i * i) for i in range(100)]
        assert one([], []) == []

        broken = [*records(20), *records(1, "break"), *records(9)]
        with pytest.raises(
            RewardError,
            match=r"reward 'remote' \(weighed\) failed .*reward 'weighed' failed on sample 0, 0\.png",
        ) as caught:
            one(broken, pictures(30))
        assert "prompt 'break'" in str(caught.value)
        assert "cannot score this" in str(caught.value)

        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        with pytest.raises(
            RewardError, match=r"gave no answer in 2 attempts, the last: the connection broke"
        ):
            two(records(3), pictures(3))


def test_a_shipped_reward_for_answers_with_a_token_and_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.toml").write_text(
        '[data]\npairs = "p.jsonl"\n[reward.remote]\ntoken_variable = "MY_TOKEN"\n'
    )
    words = ["accuracy", "--port", "0", "--recipe", "run.toml"]
    with serving(tmp_path, *words, MY_TOKEN="open-sesame") as (url, _):
        right = Annotation(image_path="a", prompt="p", question="how many?", answer="2")
        closed = client(url, token_variable="MY_TOKEN")
        with pytest.raises(RewardError, match="says 401; is the token in the environment variable MY_TOKEN"):
            closed([right], ["2"])
        monkeypatch.setenv("MY_TOKEN", "open-sesame\n")
        settings = RewardSettings(remote=RemoteSettings(url=url, token_variable="MY_TOKEN"))
        assert text_reward("remote", settings)([right, right], ["2", "3"]) == [1.0, 0.0]
        assert image_reward("0.5 * remote", settings)([right], ["2"]) == [0.5]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    def said(*words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "pairuni", "serve-reward", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 1
        return ran.stderr

    assert "no reward is called 'nothing'; known: accuracy" in said("nothing")
    with RewardServer(REWARDS.generation, ("127.0.0.1", 0)) as taken:
        assert "in use" in said("accuracy", "--port", str(taken.server_port))
        assert "could use this reward: set PAIRUNI_REWARD_TOKEN" in said("accuracy", "--host", "0.0.0.0")
    assert "--reward.hpsv2.chekpoint is not a setting" in said("hpsv2", "--reward.hpsv2.chekpoint", "x")


@contextmanager
def inside(server: ThreadingHTTPServer | RewardServer) -> Iterator[str]:
    """A server in this process."""
    often = () if isinstance(server, RewardServer) else (0.02,)
    thread = threading.Thread(target=server.serve_forever, args=often, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_what_the_server_answers_to_nonsense() -> None:
    with inside(RewardServer(REWARDS.generation, ("127.0.0.1", 0), "secret")) as url:
        connection = HTTPConnection(url.removeprefix("http://"), timeout=5)

        def ask(method: str, path: str, body: Any = None, token: str = "secret") -> tuple[int, Any]:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {token}"}
            connection.request(method, path, data if method == "POST" else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        good = json.loads(pack(records(1), pictures(1)))
        assert ask("GET", "/health", token="")[1] == {
            "name": "redness",
            "range": [None, None],
            "needs": [],
            "version": __version__,
        }
        assert ask("POST", "/score", good) == (200, {"scores": [0.0]})
        assert ask("POST", "/score", good, "Secret")[0] == 401
        assert ask("POST", "/score", b" " * 5_000_000, "")[0] == 401
        assert ask("GET", "/score")[0] == 404
        assert ask("POST", "/else", good)[0] == 404
        for body, reason in (
            (b"{", "Expecting"),
            (b"[" * 200_000, "the request is nested too deeply"),
            ([], 'the request is not {"records"'),
            ({**good, "samples": []}, "1 records but 0 samples"),
            ({**good, "records": [{"prompt": "p"}]}, "record 0: image_path: field required"),
            ({**good, "samples": [7]}, "sample 0 is neither"),
            ({**good, "samples": [{"png": "AAAA"}]}, "sample 0 is no PNG that can be read"),
            ({**good, "samples": [{"png": "%%"}]}, "sample 0 is no PNG that can be read"),
        ):
            status, said = ask("POST", "/score", body)
            assert status == 400
            assert reason in said["error"]
        status, said = ask("POST", "/score", {**good, "samples": [{"text": "no image"}]})
        assert status == 422
        assert "reward 'redness' failed on sample 0, 0.png" in said["error"]
        assert ask("POST", "/score", good)[0] == 200, "the connection lives on"
        connection.request("POST", "/score", b"", {"Content-Length": str(1 << 40)})
        assert connection.getresponse().status == 413


class Slow:
    """A reward that waits, and counts how often it is asked."""

    name = "slow"

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.asked += 1
        time.sleep(self.seconds)
        return [0.5 * self.asked] * len(samples)


def test_a_client_that_asks_again_is_answered_by_the_request_under_way() -> None:
    slow = Slow(1.0)
    with inside(RewardServer(slow, ("127.0.0.1", 0))) as url:
        hasty = RemoteReward(RemoteSettings(url=url, timeout=0.3, max_retries=9), backoff=0.02)
        assert hasty(records(2), pictures(2)) == [0.5, 0.5]
        assert slow.asked == 1
        # a client that gave up finds what it did not hear; once it has heard, it asks anew
        with pytest.raises(RewardError, match=r"no answer within 0\.3 seconds"):
            client(url, timeout=0.3, max_retries=0)(records(1), pictures(1))
        time.sleep(1.0)
        assert client(url)(records(1), pictures(1)) == [1.0]
        slow.seconds = 0.0
        assert client(url)(records(1), pictures(1)) == [1.5]


def test_a_request_that_hangs_does_not_keep_the_others() -> None:
    slow = Slow(1.0)
    summed = WeightedReward([Term(1.0, REWARDS.generation), Term(1.0, slow)])
    with inside(RewardServer(summed, ("127.0.0.1", 0), limit=0.2)) as url:
        with pytest.raises(RewardError, match=r"says 422: reward 'slow' gave no answer within 0\.2 seconds"):
            client(url)(records(1), pictures(1))
        slow.seconds = 0.0
        assert client(url)(records(1), pictures(1)) == [0.5 * slow.asked]


def test_what_failed_unheard_is_tried_anew() -> None:
    slow = Slow(0.6)
    with inside(RewardServer(slow, ("127.0.0.1", 0), limit=0.3)) as url:
        with pytest.raises(RewardError, match=r"no answer within 0\.1 seconds"):
            client(url, timeout=0.1, max_retries=0)(records(1), pictures(1))
        time.sleep(1.0)
        slow.seconds = 0.0
        assert client(url)(records(1), pictures(1)) == [0.5 * slow.asked]


def test_a_long_reason_keeps_its_end() -> None:
    long = {"error": "failed on " + "a long prompt " * 99 + ": out of memory"}
    with (
        inside(Odd(reply(422, long))) as url,
        pytest.raises(RewardError, match=r"failed on a.*: out of memory$"),
    ):
        client(url)(records(1), pictures(1))


def test_images_are_counted_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_PIXELS", 100)
    assert len(unpack(pack(records(4), pictures(4)))[1]) == 4
    header = BytesIO()
    Image.new("1", (9_000, 9_000)).save(header, "PNG")
    body = json.loads(pack(records(1), pictures(1)))
    body["samples"][0]["png"] = base64.b64encode(header.getvalue()[:100]).decode()
    for request in (pack(records(5), pictures(5)), json.dumps(body).encode()):
        with pytest.raises(ValueError, match=r"more than 100 pixels.* lower reward\.remote\.batch_size"):
            unpack(request)


def test_this_machine_by_its_other_address() -> None:
    try:
        server = RewardServer(REWARDS.generation, ("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert server.url == f"http://[::1]:{server.server_port}"
    assert client(server.url)(records(1), pictures(1)) == [0.0]
    server.shutdown()
    server.server_close()


def test_records_and_samples_arrive_as_they_left() -> None:
    texts = ["plain", "", '\u00e9\u2028\x00"\\', "<answer>7</answer>"]
    assert unpack(pack(records(4), texts)) == (records(4), texts)
    noise = Image.frombytes("RGB", (5, 7), bytes(range(105)))
    ((record,), (picture,)) = unpack(pack(records(1), [noise]))
    assert isinstance(picture, Image.Image)
    assert (record, picture.tobytes()) == (records(1)[0], noise.tobytes())


Act = Callable[[BaseHTTPRequestHandler], None]


class Odd(ThreadingHTTPServer):
    """A reward server whose nth request to /score is treated by the nth act; the last act goes on for ever."""

    daemon_threads = True

    def __init__(self, *acts: Act, health: Any = None) -> None:
        self.acts, self.asked = acts, 0
        about = health or {"name": "odd", "range": [0, 1], "needs": []}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply(200, about)(self)

            def do_POST(handler) -> None:
                handler.rfile.read(int(handler.headers["Content-Length"]))
                self.asked += 1
                self.acts[min(self.asked, len(self.acts)) - 1](handler)

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


def reply(status: int, said: Any) -> Act:
    def act(handler: BaseHTTPRequestHandler) -> None:
        data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return act


def drop(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"scores": [')


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


GOOD = reply(200, {"scores": [0.5]})


@pytest.mark.parametrize("act", [reply(500, "oh no"), reply(503, {"error": "busy"}), drop, cut, hang])
def test_what_passes_is_sent_again(act: Act) -> None:
    server = Odd(act, act, GOOD)
    with inside(server) as url:
        assert client(url, timeout=0.3)(records(1), pictures(1)) == [0.5]
    assert server.asked == 3


@pytest.mark.parametrize(
    ("act", "asked", "reason"),
    [
        (reply(500, "oh no"), 3, "gave no answer in 3 attempts, the last: it says 500: oh no"),
        (drop, 3, "gave no answer in 3 attempts, the last: the connection broke"),
        (hang, 3, "gave no answer in 3 attempts, the last: no answer within 0.3 seconds"),
        (reply(400, {"error": "what?"}), 1, "says 400: what?"),
        (reply(404, "<html>nobody</html>"), 1, "says 404: <html>nobody</html>"),
        (reply(429, {"error": "slowly"}), 1, "says 429: slowly"),
        (reply(302, ""), 1, "says 302"),
        (reply(200, "<html>"), 1, "is no reward server: it does not answer with a JSON object"),
        (reply(200, {"scores": [1.0, 2.0]}), 1, "gave no list of 1 scores"),
        (reply(200, {"score": 1.0}), 1, "gave no list of 1 scores"),
    ],
)
def test_what_does_not_pass_names_the_reward_and_the_sample(act: Act, asked: int, reason: str) -> None:
    server = Odd(act)
    with inside(server) as url:
        reward = client(url, timeout=0.3, max_retries=2)
        with pytest.raises(
            RewardError, match=r"^reward 'remote' \(odd\) failed on sample 0, 0\.png "
        ) as caught:
            reward(records(1), pictures(1))
    assert reason in str(caught.value)
    assert server.asked == asked


def test_a_failed_request_of_several_stops_the_others() -> None:
    server = Odd(reply(400, {"error": "no"}))
    with inside(server) as url:
        reward = client(url, batch_size=2, concurrency=1)
        with pytest.raises(RewardError, match=r"failed on 2 samples from sample 0, 0\.png .* says 400: no"):
            reward(records(50), pictures(50))
    assert server.asked == 1


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
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"reward\.remote\.url .*must be like http://localhost:8100"):
        image_reward("remote", RewardSettings(remote=RemoteSettings(url=url)))


def test_nobody_there_and_somebody_else_there() -> None:
    with inside(Odd(GOOD)) as url:
        pass
    with pytest.raises(RemoteError, match="gave no answer in 1 attempts, the last: the connection broke"):
        client(url, max_retries=0)
    # as docs/rewards.md shows, for a second server
    server = Odd(reply(400, {"error": "no"}))
    with inside(server) as url:

        class Elsewhere(RemoteReward):
            name = "elsewhere"

        with pytest.raises(RewardError, match=r"^reward 'elsewhere' \(odd\) failed"):
            Elsewhere(RemoteSettings(url=url))(records(1), pictures(1))
    with (
        inside(Odd(GOOD, health={"status": "ok"})) as url,
        pytest.raises(RemoteError, match="is no reward server"),
    ):
        client(url)
