"""Models and data sets by hub name, with a local fake hub or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0" * 39 + "1"


class Hub(ThreadingHTTPServer):
    """A hub with a public model, a data set and a gated model; it records the requested paths."""

    files = {  # noqa: RUF012
        "config.json": b'{"model_type": "resnet"}',
        "model.safetensors": b"weights",
        "model.fp16.safetensors": b"a copy in another precision",
        "open_clip_pytorch_model.safetensors": b"a copy for another library",
        "onnx/config.json": b"{}",
        "vqvae/config.json": b"{}",
        "vqvae/diffusion_pytorch_model.safetensors": b"other weights",
        "vqvae/more/config.json": b"{}",
        "pytorch_model.bin": b"a pickle",
    }

    def __init__(self) -> None:
        self.requested: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.requested.append(path)
        if path.startswith("/api/models/org/model/tree"):
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": sha256(data).hexdigest()[:40]}
                for name, data in self.server.files.items()
            ]
            self._send(200, json.dumps(listed).encode())
        elif path.startswith(("/api/models/org/model", "/api/datasets/org/rows")):
            listed = [{"rfilename": name} for name in self.server.files]
            self._send(200, json.dumps({"id": "org/model", "sha": COMMIT, "siblings": listed}).encode())
        elif path.startswith("/org/model/resolve/"):
            name = path.split("/", 5)[5]
            data = self.server.files[name]
            self._send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(data).hexdigest()}"'})
        elif "gated" in path:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "restricted"})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not found"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server
        server.shutdown()


def run(code: str, home: Path, endpoint: str, **environment: str) -> str:
    """The output of a process with this hub; the client reads the address once, at import."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    given = {**inherited, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**given, **environment},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def tried(call: str) -> str:
    return f"from pairuni.io.hub import *\ntry: print({call})\nexcept ValueError as error: print(error)"


def test_a_snapshot_holds_what_transformers_loads_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    folder = Path(run(tried("model_folder('org/model')"), tmp_path, hub.url))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    requested = len(hub.requested)
    offline = run(tried("model_folder('org/model')"), tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert (offline, len(hub.requested)) == (str(folder), requested)
    unreachable = run(tried("model_folder('org/model')"), tmp_path, "http://127.0.0.1:9")
    assert unreachable == str(folder)


@pytest.mark.parametrize("weights", [True, False])
def test_a_checkpoint_in_two_folders(hub: Hub, tmp_path: Path, weights: bool) -> None:
    hub.files = {**Hub.files, "config.json": b'{"model_type": "llada"}'}
    code = "from pairuni.policies.registry import resolve\nprint(resolve('org/model', weights={}))"
    folder = Path(run(code.format(weights), tmp_path, hub.url))
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    expected = {"config.json", "vqvae/config.json"}
    if weights:
        expected |= {"model.safetensors", "pytorch_model.bin", "vqvae/diffusion_pytorch_model.safetensors"}
    assert found == expected


def test_one_file_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    calls = [
        f"hub_file('org/model', '{name}', kind='checkpoint')" for name in ("pytorch_model.bin", "other.pt")
    ]
    path, missing = run("\n".join(map(tried, calls)), tmp_path, hub.url).splitlines()
    assert Path(path).read_bytes() == b"a pickle"
    assert missing == "the checkpoint org/model has no file other.pt in the local cache or on the hub"


FAULTS = {
    "model_folder('org/none', kind='image encoder')": "there is no folder org/none, and the hub has no image encoder",
    "model_folder('org/gated')": "the model org/gated is gated: accept its terms",
    "model_folder('no name')": "there is no folder no name, and it is not a valid hub name",
    "model_folder('./models/clip')": "there is no folder ./models/clip",
    "check_data_set('org/none')": "there is no folder org/none, and the hub has no data set of that name",
    "check_data_set('org/rows')": "None",
}


def test_what_the_hub_does_not_provide_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    printed = run("\n".join(map(tried, FAULTS)), tmp_path, hub.url).splitlines()
    assert [line[: len(fact)] for line, fact in zip(printed, FAULTS.values(), strict=True)] == [
        *FAULTS.values()
    ]


def test_an_unreachable_hub_gets_one_request(tmp_path: Path) -> None:
    """``from_pretrained`` would repeat each request five times and wait in between."""
    counted = "import time\nslept = []\ntime.sleep = slept.append\n"
    calls = map(tried, ("model_folder('org/model')", "check_data_set('org/rows')"))
    told = run("\n".join([counted, *calls, "print(slept)"]), tmp_path, "http://127.0.0.1:9").splitlines()
    assert [
        "is neither a folder here nor in the local cache, and the hub cannot be reached (" in line
        for line in told[:2]
    ] == [True] * 2
    assert told[2:] == ["[]"]


def test_offline_is_said(tmp_path: Path) -> None:
    told = run(tried("model_folder('org/model')"), tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert told.startswith(
        "the model org/model is neither a folder here nor in the local cache, and HF_HUB_OFFLINE is set"
    )
