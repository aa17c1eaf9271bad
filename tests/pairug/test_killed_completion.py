"""Killed at random moments and resumed: the same files, and nothing that was answered is asked again."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from chat_server import Ask, ChatServer
from colour_world import small, write_rows
from completion_samples import made_samples, real_samples
from kill_events import Child, run_child
from pairuni.chat.endpoint import Endpoint
from pairuni.config import CompletionSettings, PairsSettings
from pairuni.pairug.build import build_pairs
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.records import UnderstandingSample

CONCURRENCY = 6
RESULTS = ("pairs.jsonl", "quadruples.jsonl", "dropped.jsonl", "stats.json")


CURED = {"429": 0.05, "500": 0.10, "cut envelope": 0.14, "drop": 0.17, "hang": 0.18}
"""Faults that a second delivery is free of, and up to which share of the requests they reach."""
LASTING = {"cut": 0.25, "refuse": 0.30, "contradict": 0.38, "status 400 no": 0.40}


def faults(ask: Ask) -> str | None:
    share = ask.share("fault")
    cured = next((fault for fault, most in CURED.items() if share < most), None)
    if cured is not None:
        return cured if ask.delivery == 1 else None
    return next((fault for fault, most in LASTING.items() if share < most), None)


def raw_data(folder: Path, count: int) -> None:
    """Raw files beside their images: real ones where they are present."""
    folder.mkdir(parents=True)
    rows: dict[str, list[dict]] = {"u": [], "g": []}
    for sample in real_samples(count) or made_samples(folder / "made", count):
        image = folder / f"{sample.id}{Path(sample.image_path).suffix}"
        image.write_bytes(Path(sample.image_path).read_bytes())
        corpus = "u" if isinstance(sample, UnderstandingSample) else "g"
        rows[corpus].append({**sample.model_dump(), "image_path": image.name})
    for corpus, found in rows.items():
        write_rows(folder / f"{corpus}.jsonl", found)


def build(folder: Path, url: str) -> None:
    settings = PairsSettings(
        understanding=folder / "u.jsonl",
        generation=folder / "g.jsonl",
        out=folder / "out",
        annotator="endpoint",
        completion=CompletionSettings(model="seer", base_url=url, concurrency=CONCURRENCY, timeout=2.0),
        clusters=5,
    )
    ask = Endpoint(settings.completion, backoff=0.01)
    build_pairs(settings, encoder=small, annotator=ModelAnnotator("endpoint", settings.completion, ask))


def stored_at(server: ChatServer, folder: Path) -> dict[str, int]:
    """Digest of each request whose answer is stored -> serial of the request that was answered."""
    path = folder / "out" / "cache" / "answers.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    ids = [json.loads(line)["answer"]["id"] for line in lines if line.endswith(b"\n")]
    return {server.asks[serial].digest: serial for serial in (int(one.partition("-")[2]) for one in ids)}


@pytest.mark.parametrize(
    ("kills", "count"), [(2, 20), pytest.param(20, 100, marks=pytest.mark.slow)], ids=["2", "20"]
)
def test_killed_and_resumed_is_as_never_killed(tmp_path: Path, kills: int, count: int) -> None:
    raw_data(tmp_path / "whole", count)
    raw_data(tmp_path / "killed", count)
    with ChatServer(faults, seconds=0.02) as server:
        run_child(partial(build, tmp_path / "whole", server.url))
        needed, first_url = len(server.asks), server.url
    rng = random.Random(kills)
    in_flight: set[str] = set()
    with ChatServer(faults, seconds=0.02) as server:
        folder = tmp_path / "killed"
        for _ in range(kills):
            running = Child(partial(build, folder, server.url))
            wanted = len(server.asks) + rng.randint(1, max(2, needed // kills))
            while len(server.asks) < wanted and running.runs():
                time.sleep(0.002)
            time.sleep(rng.random() * 0.05)
            running.kill()
            assert running.ended() is None, "the build ended before it was killed"
            in_flight |= {ask.digest for ask in server.asks} - set(stored_at(server, folder))
        run_child(partial(build, folder, server.url))
    stored = stored_at(server, folder)
    for ask in server.asks:
        assert ask.serial <= stored.get(ask.digest, ask.serial), "asked again after its answer was stored"
    without_answer = {ask.digest for ask in server.asks} - stored.keys()
    assert all(faults(ask) == "status 400 no" for ask in server.asks if ask.digest in without_answer)
    deliveries = Counter(ask.digest for ask in server.asks)
    cured = {ask.digest for ask in server.asks if ask.delivery == 1 and faults(ask) in CURED}
    repeated = {digest for digest in stored if deliveries[digest] > 1 + (digest in cured)}
    assert repeated <= in_flight
    assert len(repeated) <= kills * CONCURRENCY
    for name in RESULTS:
        whole, resumed = ((tmp_path / way / "out" / name).read_bytes() for way in ("whole", "killed"))
        whole = whole.replace(b"/whole/", b"/killed/").replace(first_url.encode(), server.url.encode())
        assert whole == resumed, name
    stats = json.loads((tmp_path / "killed" / "out" / "stats.json").read_text())
    counts = stats["build"]
    assert stats["completion"]["answers"] == len(stored)
    assert stats["completion"]["prompt_tokens"] == 1000 * len(stored)
    assert counts["samples"] == counts["quadruples"] + counts["dropped"] + counts["failed"] == count
    assert counts["quadruples"] > count / 2
    assert counts["retried"] > 0
    assert counts["dropped"] + counts["failed"] > 0 or count < 50
