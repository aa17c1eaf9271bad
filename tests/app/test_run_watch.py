"""Runs as the app shows them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fake_run import write_fake_run
from pairuni.app.run_watch import RunWatch

HOLD = """
import sys, time
from pathlib import Path
from pairuni.io.locks import folder_lock
with folder_lock(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def append(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def metrics(*steps: int, **values: float) -> list[dict[str, object]]:
    return [{"step": step, "understanding/reward": 0.5, "step_time": 3.0, **values} for step in steps]


def sample(step: int, question: str) -> dict[str, object]:
    return {
        "step": step,
        "similarity": 0.7,
        "question": question,
        "answers": [{"text": "two", "reward": 1.0}],
    }


def last_step(curves: str) -> str | None:
    found = re.search(r'aria-valuetext="step ([\d,]+)', curves)
    return found and found[1]


def test_a_run_appears_and_grows(tmp_path: Path) -> None:
    run = tmp_path / "run"
    watch = RunWatch(run)
    look = watch.look()
    assert "no such folder yet" in look.status
    assert (look.curves, look.samples, look.sample_steps) == ("", "", ())
    run.mkdir()
    assert "no metrics yet" in watch.look().status
    (run / "config.toml").write_text('[policy]\nmodel = "tiny<b>"\n[pairgrpo]\nsteps = 40\n')
    append(run / "metrics.jsonl", *metrics(1, 2))
    append(run / "samples" / "samples.jsonl", sample(1, "a red <i>one"))
    look = watch.look()
    assert "step 2 of 40" in look.status
    assert 'value="5.0"' in look.status
    assert "tiny&lt;b&gt;" in look.status
    assert last_step(look.curves) == "2"
    assert "a red &lt;i&gt;one" in look.samples
    append(run / "metrics.jsonl", *metrics(3))
    append(run / "samples" / "samples.jsonl", sample(3, "later"))
    later = watch.look()
    assert last_step(later.curves) == "3"
    assert "later" in later.samples
    assert "red" not in later.samples
    assert later.sample_steps == (1, 3)
    assert watch.look(1).samples == look.samples
    assert watch.look(2).samples == later.samples


def test_a_resume_takes_steps_back(tmp_path: Path) -> None:
    append(tmp_path / "metrics.jsonl", *metrics(1, 2, 3))
    watch = RunWatch(tmp_path)
    watch.look()
    (tmp_path / "new").write_text(json.dumps(metrics(1)[0]) + "\n")
    os.replace(tmp_path / "new", tmp_path / "metrics.jsonl")
    assert last_step(watch.look().curves) == "1"


def test_training_stopped_and_finished_are_told_apart(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "run").mkdir()
    (run / "config.toml").write_text("[pairgrpo]\nsteps = 40\n")
    append(run / "metrics.jsonl", *metrics(*range(1, 11)))
    watch = RunWatch(run)
    assert "it stopped at step 10 of 40" in watch.look().status
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        status = watch.look().status
        assert "Training: step 10 of 40" in status
        assert "about 2 min left" in status or "about 90 s left" in status
        process.stdin.close()
    assert "stopped" in watch.look().status
    (run / "summary.json").write_text("{}")
    assert "Finished at step 10 of 40" in watch.look().status


def test_epochs_give_the_share_too(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[pairgrpo]\nepochs = 2\nsteps = 100\n")
    append(tmp_path / "metrics.jsonl", *metrics(5, epoch=0.5))
    status = RunWatch(tmp_path).look().status
    assert 'value="25.0"' in status
    assert "step 5." in status


def test_a_finished_run_shows_everything(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path / "run", steps=40, items=6, pairs=4)
    look = RunWatch(run).look()
    assert look.sample_steps == (1, 40)
    for title in ("Understanding reward", "Generation reward", "Gradient norm", "Tokens per second"):
        assert f"<figcaption>{title}" in look.curves
    assert look.samples.count("data:image/png") == 16
    placed = set(re.findall(r'data-at="([^"]+)"', look.curves))
    assert placed == set(re.findall(r'\[data-at="([^"]+)"\]', look.curves))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metrics.jsonl", "{}\n"),
        ("metrics.jsonl", '{"step": 1, "understanding/reward": "x"}\n'),
        ("samples/samples.jsonl", "[]\n"),
        ("config.toml", "= 3"),
        ("evaluation/step-x.json", "{}"),
    ],
)
def test_damage_is_a_sentence_and_the_rest_stays(tmp_path: Path, file: str, text: str) -> None:
    append(tmp_path / "metrics.jsonl", *metrics(1, 2))
    watch = RunWatch(tmp_path)
    before = watch.look()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    with (tmp_path / file).open("a") as damaged:
        damaged.write(text)
    look = watch.look()
    assert 'class="fault"' in look.status
    assert file.removesuffix("\n") in look.status
    assert look.curves == before.curves
