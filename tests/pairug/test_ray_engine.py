"""On a local Ray with two workers: both engines make the same files, and errors of a worker are raised here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chat_server import Ask, ChatServer
from completion_samples import made_samples
from pairuni.config import CompletionSettings, PairsSettings
from pairuni.pairug.build import build_pairs
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.scale.ray_engine import RayEngine
from pairuni.pairug.scale.workers import DistributedStages, check_distributed
from pairuni.pairug.selection import candidates
from pairuni.pairug.selection.candidates import Cells, find_candidates

pytest.importorskip("ray", reason="pip install 'pairuni[ray]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    here = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = here
    try:
        with RayEngine(workers=2) as engine:
            yield engine
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def pixels(images: Sequence[Image.Image]) -> np.ndarray:
    rows = [np.asarray(image.resize((4, 4)), np.float32).reshape(-1) / 255 for image in images]
    return np.stack(rows) - 0.2


def faults(ask: Ask) -> str | None:
    share = ask.share("fault")
    return "contradict" if share < 0.15 else "refuse" if share < 0.25 else None


def world(folder: Path, url: str, engine: str) -> PairsSettings:
    samples = made_samples(folder / "pictures", 160)
    for corpus, kind in (("u", "UnderstandingSample"), ("g", "GenerationSample")):
        lines = [
            one.model_copy(update={"image_path": f"pictures/{Path(one.image_path).name}"}).model_dump_json()
            for one in samples
            if type(one).__name__ == kind
        ]
        (folder / f"{corpus}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "pictures" / "7.png").write_bytes(b"no image")
    return PairsSettings(
        understanding=folder / "u.jsonl",
        generation=folder / "g.jsonl",
        out=folder / engine / "pairug",
        annotator="endpoint",
        completion=CompletionSettings(model="seer", base_url=url, concurrency=3, timeout=3.0),
        clusters=5,
        batch_size=8,
        engine=engine,  # type: ignore[arg-type]
    )


def files_of(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "cache" not in path.parts
    }


def build(settings: PairsSettings, engine: RayEngine) -> None:
    annotator = make_annotator(settings.annotator, settings.completion)
    stages = DistributedStages(settings, engine, lambda: pixels) if settings.engine == "ray" else None
    build_pairs(settings, encoder=pixels, annotator=annotator, stages=stages)


def test_both_engines_make_the_same_files_and_pay_once(
    tmp_path: Path, engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "WORTH_WORKERS", 0)
    monkeypatch.setattr("pairuni.pairug.scale.workers.SAMPLES", 16)
    with ChatServer(faults) as server:
        for name in ("local", "ray"):
            settings = world(tmp_path, server.url, name)
            before = len(server.asks)
            build(settings, engine)
            asked = len(server.asks) - before
            build(settings, engine)
            assert len(server.asks) == before + asked, f"{name} asked again"
    local, ray = (files_of(tmp_path / name / "pairug") for name in ("local", "ray"))
    assert {"pairs.jsonl", "quadruples.jsonl", "dropped.jsonl", "stats.json", "README.md"} < set(local)
    assert local == ray
    assert not list((tmp_path / "ray" / "pairug" / "cache" / "parts").glob("*"))
    stores = [AnswerStore(tmp_path / name / "pairug/cache/answers.jsonl") for name in ("local", "ray")]
    assert len(stores[0]) == len(stores[1]) > 160


def test_answers_that_a_killed_worker_left_are_not_paid_again(tmp_path: Path, engine: RayEngine) -> None:
    with ChatServer() as server:
        settings = world(tmp_path, server.url, "ray")
        build(settings, engine)
        cache, asked = settings.out / "cache", len(server.asks)
        lines = (cache / "answers.jsonl").read_bytes().splitlines(keepends=True)
        (cache / "answers.jsonl").write_bytes(b"".join(lines[:100]))
        (cache / "parts" / "left.jsonl").write_bytes(b"".join(lines[100:200]) + lines[200][:30])
        before = files_of(settings.out)
        build(settings, engine)
        assert files_of(settings.out) == before
        assert len(server.asks) - asked == len(lines) - 200


@pytest.mark.parametrize("cells", [False, True], ids=["all", "cells"])
def test_workers_find_the_same_candidates(
    engine: RayEngine, monkeypatch: pytest.MonkeyPatch, cells: bool
) -> None:
    monkeypatch.setattr(candidates, "WORTH_WORKERS", 0)
    monkeypatch.setattr(candidates, "EXACT_COMPARISONS", 0)
    monkeypatch.setattr(candidates, "_ROWS_SENT", 1024)
    monkeypatch.setattr(candidates, "_CELLS_SENT", 5)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16)).astype(np.float32)
    rows = centres[rng.integers(0, 40, 5000)] + 0.5 * rng.standard_normal((5000, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    g, u = rows[:2600], rows[2600:]
    near = Cells.around(centres / np.linalg.norm(centres, axis=1, keepdims=True), g, u) if cells else None
    here, there = (find_candidates(g, u, 0.7, 6, cells=near, engine=one) for one in (None, engine))
    assert len(here.similarity) > 1000
    assert (here.comparisons < g.shape[0] * u.shape[0]) == cells
    for name in ("generation", "understanding", "similarity", "full"):
        assert np.array_equal(getattr(here, name), getattr(there, name)), name
    assert (here.recall, here.comparisons) == (there.recall, there.comparisons)


def test_what_fails_on_a_worker_is_raised_here(engine: RayEngine) -> None:
    def work(block: int) -> int:
        if block == 3:
            raise ValueError("the third cannot be done")
        return block * block

    assert sorted(engine.run(lambda: work, [0, 1, 2])) == [(0, 0), (1, 1), (2, 4)]
    with pytest.raises(ValueError, match="the third cannot be done"):
        list(engine.run(lambda: work, [1, 3]))

    def broken() -> Callable[[int], int]:
        raise FileNotFoundError("no such model")

    with pytest.raises(FileNotFoundError, match="no such model"):
        list(engine.run(broken, [1]))
    assert list(engine.run(partial(broken), [])) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotator": "batch"}, "annotator = batch works on files of one process"),
        ({"completion": CompletionSettings(model="m", max_calls=3)}, "a budget .* is kept by one process"),
    ],
)
def test_what_one_process_alone_can_do_is_refused(tmp_path: Path, changes: dict, said: str) -> None:
    settings = PairsSettings(understanding="u", generation="g", out=tmp_path, engine="ray", **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        check_distributed(settings)
    check_distributed(settings.model_copy(update={"engine": "local"}))
