"""The app over HTTP. Needs gradio: pip install pairuni[app]."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from app_server import served
from PIL import Image

from pairuni.policies import load_policy

pytest.importorskip("gradio")

TOKEN = "open-sesame-1234"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as server:
        yield server.url


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url, headers=headers), timeout=60) as reply:
            return reply.status, reply.read()
    except HTTPError as error:
        return error.code, error.read()


def events(url: str, name: str, *given: Any) -> list[tuple[str, Any]]:
    """What an event of the page sends, in order."""
    asked = Request(
        f"{url}/gradio_api/call/{name}",
        data=json.dumps({"data": given}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(asked, timeout=60) as reply:
        event = json.load(reply)["event_id"]
    _, body = get(f"{url}/gradio_api/call/{name}/{event}")
    found = re.findall(r"^event: (\w+)\ndata: (.*)$", body.decode(), re.M)
    return [(kind, json.loads(data)) for kind, data in found]


def call(url: str, name: str, *given: Any) -> tuple[str, str]:
    """The last results and the last status that an event of the page shows."""
    shown = ["", ""]
    for kind, data in events(url, name, *given):
        assert kind in {"generating", "complete"}, data
        for place, value in enumerate(data):
            if isinstance(value, str):
                shown[place] = value
    return shown[0], shown[1]


def draw(
    url: str, *, prompt: str = "two sevens", model: str = "tiny", seeds: str = "3", count: str = "2"
) -> tuple[str, str]:
    return call(url, "draw", prompt, model, "none", seeds, count, "2", "1")


def test_nothing_of_the_page_is_elsewhere(url: str) -> None:
    status, page = get(url)
    assert status == 200
    config = json.loads(re.search(rb"window\.gradio_config = (\{.*?\});</script>", page)[1])  # type: ignore[index]
    assert config["analytics_enabled"] is False
    assert not config.get("is_space")
    loaded = re.findall(rb'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page)
    assert loaded == []
    status, theme = get(f"{url}/theme.css")
    assert b"url(http" not in theme


def test_images_are_those_of_the_command(url: str) -> None:
    results, status = draw(url)
    assert "2 images in" in status
    assert "pairuni draw &#x27;two sevens&#x27; --model tiny --seed 3 --count 2 --guidance 2" in status
    names = re.findall(r'src="(drawings/\w+\.png)"', results)
    expected = load_policy("tiny", device="cpu").generate_images("two sevens", 2, guidance=2.0, seed=3)
    for name, image in zip(names, expected, strict=True):
        code, data = get(f"{url}/{name}")
        assert code == 200
        assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()
    assert get(f"{url}/drawings/{'0' * 32}.png")[0] == 404
    assert get(f"{url}/drawings/..%2F..%2Fetc%2Fpasswd")[0] == 404


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"prompt": ""}, "Write a prompt first."),
        ({"prompt": "<b>" + "seven " * 2000}, "positions"),
        ({"seeds": "x"}, "is not a seed"),
        ({"count": "0"}, "is not a number of images"),
    ],
)
def test_errors_are_sentences(url: str, given: dict[str, str], fault: str) -> None:
    _, status = draw(url, **given)
    assert status.startswith('<p class="fault" role="alert">')
    assert fault in status
    assert "Traceback" not in status


def test_files_of_this_machine_are_not_served(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    image = {"path": str(tmp_path / "secret.png"), "meta": {"_type": "gradio.FileData"}}
    with served(["tiny-lumina"]) as server:
        assert get(f"{server.url}/gradio_api/file={image['path']}")[0] in {403, 404}
        for name, *given in (
            ("ask", [{"image": image, "caption": None}], "what?", "tiny-lumina", "none", ""),
            ("edit", image, "make it red", "tiny-lumina", "0", "1", "", ""),
        ):
            assert [kind for kind, _ in events(server.url, name, *given)] == ["error"], name


def test_a_question_needs_an_image(url: str) -> None:
    for shown in (None, []):
        assert "Choose an image first." in call(url, "ask", shown, "what?", "tiny", "none", "")[1]


def test_every_path_asks_for_the_token() -> None:
    import base64

    right = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    with served(token=TOKEN) as server:
        for path in (
            "/",
            "/config",
            "/theme.css",
            "/gradio_api/info",
            "/gradio_api/queue/data",
            "/drawings/x.png",
        ):
            assert get(server.url + path)[0] == 401, path
        assert get(server.url, Authorization=right)[0] == 200
        assert TOKEN.encode() not in get(server.url, Authorization=right)[1]
