"""TensorBoard, wandb offline and trackio hold the numbers of metrics.jsonl after a kill -9 and a resume."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracked_runs import SAMPLED, TIMES, kill_after_checkpoint, logged, settings, train

from kill_events import run_child


def needs(package: str) -> pytest.MarkDecorator:
    """Without an import: trackio reads its folder from the environment when it is imported."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def killed_and_resumed(out: Path, tracker: str) -> None:
    """A run that is killed in step 6, after its checkpoint of step 4, and resumed; each part is a process."""
    chosen = settings(tracker)
    assert run_child(lambda: train(out, chosen, act=lambda: kill_after_checkpoint(out))) is None
    assert list(logged(out)) == [0, 1, 2, 3, 4, 5]
    run_child(lambda: train(out, chosen, resume=True))
    assert list(logged(out)) == [0, 1, 2, 3, 4, 5, 6]


@needs("tensorboard")
def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    killed_and_resumed(out, "tensorboard")
    # no purging: the files themselves must hold each step once
    events = EventAccumulator(
        str(out / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0}, purge_orphaned_data=False
    )
    events.Reload()
    found: dict[int, dict[str, float]] = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            assert name not in found.setdefault(event.step, {}), (name, event.step)
            found[event.step][name] = event.value
    assert found == {
        step: {name: float(np.float32(value)) for name, value in row.items()}
        for step, row in logged(out).items()
    }
    assert [event.step for event in events.Images("samples/0")] == list(SAMPLED)


@needs("wandb")
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    killed_and_resumed(out, "wandb")
    (file,) = (path for path in out.glob("wandb/offline-run-*/run-*.wandb"))
    assert file.stem == "run-" + json.loads((out / "trackers.json").read_text())["id"]
    found: dict[int, dict[str, Any]] = {}
    pictured = []
    for row in wandb_history(file):
        step = row.pop("_step")
        assert step not in found
        found[step] = {name: value for name, value in row.items() if not name.startswith(("_", "samples/"))}
        if row.get("samples/0/_type") == "image-file":
            pictured.append(step)
    assert found == logged(out)
    assert pictured == list(SAMPLED)
    assert len(list(file.parent.glob("files/media/images/**/*.png"))) == 2 * len(SAMPLED)


def wandb_history(file: Path) -> Iterator[dict[str, Any]]:
    """The logged rows of a .wandb file: records in LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, part = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        part += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record.FromString(part)
            part = b""
            if record.WhichOneof("record_type") == "history":
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in record.history.item
                }


READ_TRACKIO = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage

(record,) = SQLiteStorage.get_run_records("tests")
logs = SQLiteStorage.get_logs("tests", record["name"])
print(json.dumps({"name": record["name"], "logs": logs}, default=str))
"""


@needs("trackio")
def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """trackio keeps the first values of step 5, which ran twice: its times are those of the first part."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    out = tmp_path / "run"
    killed_and_resumed(out, "trackio")
    done = subprocess.run([sys.executable, "-c", READ_TRACKIO], capture_output=True, text=True, check=True)
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["name"] == "run-" + json.loads((out / "trackers.json").read_text())["id"]
    found: dict[int, dict[str, Any]] = {}
    pictured = []
    for row in read["logs"]:
        step = row.pop("step")
        row.pop("timestamp")
        if pictures := [row.pop(name) for name in list(row) if name.startswith("samples/")]:
            pictured.append(step)
            assert len(pictures) == 2
        known = found.setdefault(step, {})
        assert not set(known) & set(row), "a value came twice"
        known |= {name: value for name, value in row.items() if name not in TIMES}
    assert found == logged(out, times=False)
    assert pictured == list(SAMPLED)
