"""Processes of a study: order, failures, places and an interruption."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from pairuni.studies.scheduler import Part, PartFailed, Scheduler, slots


def part(folder: Path, name: str, *scripts: str, needs: Sequence[Path] = ()) -> Part:
    """A part that runs these Python scripts in order; they write ``done`` into its folder."""
    return Part(
        name,
        folder / name,
        [[sys.executable, "-c", script, str(folder / name / "done")] for script in scripts],
        folder / name / "done",
        needs,
    )


WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x')"


def run(parts: Sequence[Part], jobs: int = 2) -> list[str]:
    finished: list[str] = []
    Scheduler(slots(jobs, gpus=0, cores=2), lambda one: finished.append(one.name)).run(parts)
    return finished


def test_parts_wait_for_what_they_need_and_finished_ones_are_not_repeated(tmp_path: Path) -> None:
    first = part(tmp_path, "first", "import time; time.sleep(0.2)", WRITE)
    second = part(tmp_path, "second", WRITE, needs=[first.done])
    assert run([second, first]) == ["first", "second"]
    assert run([second, first]) == []


def test_a_failed_part_is_named_with_its_last_line_and_the_others_end(tmp_path: Path) -> None:
    bad = part(tmp_path, "bad", "import sys; print('error: it broke'); sys.exit(1)")
    behind = part(tmp_path, "behind", WRITE, needs=[bad.done])
    good = part(tmp_path, "good", WRITE)
    with pytest.raises(PartFailed, match=r"bad failed: it broke \(.*log.txt\)"):
        run([bad, behind, good], jobs=1)
    assert good.done.exists()
    assert not behind.done.exists()


def test_a_part_that_ends_without_its_file_has_failed(tmp_path: Path) -> None:
    with pytest.raises(PartFailed, match="it wrote nothing"):
        run([part(tmp_path, "idle", "pass")])


def test_an_interruption_lets_the_processes_save_their_work(tmp_path: Path) -> None:
    script = (
        "import pathlib, signal, sys, time\n"
        "saved = pathlib.Path(sys.argv[1]).with_name('saved')\n"
        "def save(*_): saved.write_text('x'); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "saved.with_name('ready').write_text('x')\n"
        "time.sleep(60)\n"
    )
    slow = part(tmp_path, "slow", script)

    def stop() -> None:
        while not (slow.folder / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run([slow])
    assert (slow.folder / "saved").exists()


def test_places_share_cores_and_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [one.environment["OMP_NUM_THREADS"] for one in slots(None, gpus=0, cores=3)] == ["1"] * 3
    assert slots(2, gpus=0, cores=8)[0].environment["OMP_NUM_THREADS"] == "4"
    on_gpus = [one.environment["CUDA_VISIBLE_DEVICES"] for one in slots(3, gpus=2, cores=8)]
    assert on_gpus == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in slots(None, gpus=2, cores=8)] == ["5", "7"]
