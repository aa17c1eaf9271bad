"""A hub on this machine, over HTTP: repositories, commits, large files, access tokens.

It answers the requests of ``huggingface_hub``'s own client, with the protocol for large files that does not need xet.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

WRITES, READS = "hf_token_that_writes", "hf_token_that_reads"
LARGE = (".safetensors", ".parquet", ".png")


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    commits: list[str] = field(default_factory=list)


class FakeHub(ThreadingHTTPServer):
    """repositories: by "models/me/name". stored: large files by SHA-256. uploads_left: uploads of large files after
    which the hub fails; None is no limit. requests: method and path of each."""

    daemon_threads = True

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.uploads_left: int | None = None
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        return self.repositories[name].branches[branch]


def use_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, token: str | None = WRITES) -> None:
    """Let the client of this process use a hub. Its addresses are constants, read from the environment at import."""
    from huggingface_hub import constants

    before = constants.ENDPOINT
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(before, hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)


def blob(data: bytes) -> str:
    return sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Answer(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        self.server.requests.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in (WRITES, READS):
            return self._fails(401, "Invalid credentials in Authorization header")
        if self.command in ("POST", "PUT") and path != "/api/validate-yaml" and token == READS:
            return self._fails(403, "you don't have the rights")
        for command, pattern, answer in _ROUTES:
            if self.command in command and (found := re.fullmatch(pattern, path)):
                return answer(self, body, **found.groupdict())
        return self._fails(404, f"no such path: {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['type']}s/{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            return self._fails(409, "You already created this repo")
        self.server.repositories[name] = Repository(private=asked.get("visibility") == "private")
        return self._json({"url": f"{self.server.url}/{name.removeprefix('models/')}"})

    def _info(self, _: bytes, name: str, revision: str | None = None) -> None:
        if (files := self._files(name, revision)) is not None:
            siblings = [{"rfilename": file} for file in files]
            found = self.server.repositories[name]
            identity = {"id": name.partition("/")[2], "sha": self._commit_of(files), "private": found.private}
            self._json({**identity, "siblings": siblings})

    def _tree(self, _: bytes, name: str, revision: str) -> None:
        if (files := self._files(name, revision)) is not None:
            self._json(
                [
                    {"type": "file", "path": path, "size": len(data), "oid": blob(data)}
                    for path, data in files.items()
                ]
            )

    def _branch(self, _: bytes, name: str, revision: str) -> None:
        branches = self.server.repositories[name].branches
        if revision in branches:
            return self._fails(409, "Reference already exists")
        branches[revision] = dict(branches["main"])
        return self._json({})

    def _validate(self, body: bytes) -> None:
        self._json({"warnings": [], "errors": []})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        if (files := self._files(name, revision)) is not None:
            self._json({"files": [self._mode(one["path"], files) for one in json.loads(body)["files"]]})

    @staticmethod
    def _mode(path: str, files: dict[str, bytes]) -> dict[str, Any]:
        large, known = path.endswith(LARGE), files.get(path)
        oid = None if known is None else sha256(known).hexdigest() if large else blob(known)
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def _batch(self, body: bytes, repo: str) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            action = {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}
            known = one["oid"] in self.server.stored
            objects.append({**one, "authenticated": True, **({} if known else {"actions": action})})
        self._json({"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> None:
        if self.server.uploads_left is not None:
            if not self.server.uploads_left:
                return self._fails(400, "the connection was cut")
            self.server.uploads_left -= 1
        assert sha256(body).hexdigest() == oid
        self.server.stored[oid] = body
        self.server.uploads.append(oid)
        return self._json({})

    def _change(self, body: bytes, name: str, revision: str) -> None:
        found = self.server.repositories[name]
        files = dict(found.branches[revision])
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                found.commits.append(value["summary"])
            elif operation["key"] == "file":
                files[value["path"]] = b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.stored[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
            else:
                return self._fails(400, f"unknown operation {operation['key']}")
        found.branches[revision] = files
        oid = self._commit_of(files)
        place = f"{self.server.url}/{name.removeprefix('models/')}"
        return self._json({"commitUrl": f"{place}/commit/{oid}", "commitOid": oid})

    def _resolve(self, _: bytes, revision: str, file: str, repo: str, kind: str | None = None) -> None:
        files = self._files(f"{kind or 'models/'}{repo}", revision)
        if files is None:
            return None
        if file not in files:
            return self._fails(404, "Entry not found", "EntryNotFound")
        data = files[file]
        headers = {"X-Repo-Commit": self._commit_of(files), "ETag": f'"{sha256(data).hexdigest()}"'}
        return self._send(200, data, headers)

    def _files(self, name: str, revision: str | None) -> dict[str, bytes] | None:
        """The files of a branch, or of the commit whose id is the digest of the files."""
        if name not in self.server.repositories:
            self._fails(404, "Repository not found", "RepoNotFound")
            return None
        branches = self.server.repositories[name].branches
        for branch, files in branches.items():
            if revision in (None, branch, self._commit_of(files)):
                return files
        self._fails(404, "Revision not found", "RevisionNotFound")
        return None

    @staticmethod
    def _commit_of(files: dict[str, bytes]) -> str:
        return sha1(json.dumps({name: blob(data) for name, data in files.items()}).encode()).hexdigest()

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _fails(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


_NAME = r"(?P<name>(?:models|datasets)/[^/]+/[^/]+)"
_ROUTES = [
    (("POST",), r"/api/repos/create", _Answer._create),
    (("POST",), r"/api/validate-yaml", _Answer._validate),
    (("GET",), rf"/api/{_NAME}", _Answer._info),
    (("GET",), rf"/api/{_NAME}/revision/(?P<revision>[^/]+)", _Answer._info),
    (("GET",), rf"/api/{_NAME}/tree/(?P<revision>[^/]+)", _Answer._tree),
    (("POST",), rf"/api/{_NAME}/branch/(?P<revision>[^/]+)", _Answer._branch),
    (("POST",), rf"/api/{_NAME}/preupload/(?P<revision>[^/]+)", _Answer._preupload),
    (("POST",), rf"/api/{_NAME}/commit/(?P<revision>[^/]+)", _Answer._change),
    (("POST",), r"/(?P<repo>.+)\.git/info/lfs/objects/batch", _Answer._batch),
    (("PUT",), r"/large/(?P<oid>\w+)", _Answer._put),
    (
        ("GET", "HEAD"),
        r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)",
        _Answer._resolve,
    ),
]
