"""The page shows what the result files hold; the list names commands that exist."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import suite
from benchmarks.app import app
from benchmarks.checkpoint import ADDS as CHECKPOINT
from benchmarks.ladder import BEGIN, EMPTY, END, markdown, read_results, with_results
from benchmarks.result import CONTENDERS
from benchmarks.rollout import ADDS as ROLLOUT
from benchmarks.step import ADDS as STEP
from benchmarks.update import ADDS as UPDATE
from pairuni.io.locks import folder_lock

ROOT = Path(__file__).parents[2]


def row(seconds, **more):
    extremes = {"seconds_min": seconds * 0.9, "seconds_max": seconds * 1.1}
    return {"seconds": seconds, **extremes, "start_bytes": 1 << 20, "peak_bytes": 5 << 20, **more}


RESULT = {
    "bench": "rollout",
    "command": "python -m benchmarks rollout --device cpu --json",
    "commit": "0123456789abcdef",
    "hardware": {"processor": "Some CPU", "cores": 2, "device": "cpu"},
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    "settings": {
        "model": "tiny",
        "prompts": 8,
        "rollouts": 8,
        "device": "cpu",
        "vocab_size": 100_000,
        "repeats": 7,
    },
    "copy_bytes_per_second": 2.0e10,
    "joint_over_images_alone": 1.125,
    "contenders": {
        "peers": row(4.0, images_per_second=16.0, bandwidth_share=0.05),
        "pairuni": row(0.5, images_per_second=128.0, bandwidth_share=0.4),
        "pairuni-joint": row(0.5625, images_per_second=113.8),
    },
}


def test_a_ladder_sets_every_row_against_the_first(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(RESULT))
    lines = markdown(read_results(tmp_path)).splitlines()
    assert lines[0] == "### mine"
    assert "`python -m benchmarks rollout --device cpu`" in lines[2]
    assert "Some CPU, 2 cores; torch 2.13.0, transformers 5.23.0; commit 0123456789ab.  " in lines
    assert "tiny, 8 x 8, cpu, 100,000 text tokens, median of 7" in lines
    (ours,) = [line for line in lines if line.startswith("| **pairuni**")]
    assert [cell.strip() for cell in ours.split("|")[2:-1]] == [
        "0.5 (0.45, 0.55)",
        "8.00",
        "128",
        "40.0%",
        "5",
    ]
    (joint,) = [line for line in lines if line.startswith("| **pairuni-joint**")]
    assert joint.split("|")[5].strip() == ""
    assert "Answers and images together take 1.12 times" in lines[-1]


def test_results_come_in_the_order_of_the_list(tmp_path):
    for name in ("zebra", "update-tiny-cpu", "rollout-tiny-cpu", "aardvark"):
        (tmp_path / f"{name}.json").write_text(json.dumps(RESULT))
    assert list(read_results(tmp_path)) == ["rollout-tiny-cpu", "update-tiny-cpu", "aardvark", "zebra"]


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "odd.json").write_text('{"bench": "rollout"}')
    with pytest.raises(ValueError, match=r"odd\.json holds no result"):
        read_results(tmp_path)


def test_the_page_shows_the_committed_results():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    shown = page.partition(BEGIN)[2].partition(END)[0].strip()
    assert shown == markdown(read_results(ROOT / "benchmarks" / "results"))


def test_the_command_writes_between_the_marks(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(RESULT))
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    for _ in range(2):
        done = CliRunner().invoke(app, ["table", "--results", str(tmp_path), "--page", str(page)])
        assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.startswith(f"above\n{BEGIN}\n\n### mine")
    assert text.endswith(f"alone. Measured copy: 20 GB/s.\n\n{END}\nbelow\n")
    assert "old" not in text
    with pytest.raises(ValueError, match="no lines"):
        with_results("nothing here", "")


def test_no_results_say_so(tmp_path):
    assert markdown(read_results(tmp_path)) == EMPTY


def test_every_contender_has_its_words():
    for bench, adds in (("rollout", ROLLOUT), ("update", UPDATE), ("step", STEP), ("checkpoint", CHECKPOINT)):
        assert tuple(adds) == CONTENDERS[bench]


LISTED = [words for words in (*suite.CPU.values(), *suite.CUDA.values()) if words.split()[0] in CONTENDERS]


@pytest.mark.parametrize("words", LISTED)
def test_the_list_names_commands_that_are_understood(words, monkeypatch):
    """Everything but the measuring itself."""
    seen = []

    def measure(bench, settings):
        seen.append((bench, settings))
        raise ValueError("nothing is measured")

    monkeypatch.setattr("benchmarks.result.measure_workload", measure)
    done = CliRunner().invoke(app, [*words.split(), "--json"])
    assert "nothing is measured" in done.output
    ((bench, settings),) = seen
    assert words.startswith(bench)
    assert set(getattr(settings, "skip", [])) <= set(CONTENDERS[bench])
    assert settings.answer_length == (16 if "tiny" in words else 200)


def test_the_list_goes_on_after_a_failure(tmp_path, monkeypatch):
    measured = []

    def run(command, **_):
        measured.append(command[1:])
        broken = "broken" in command
        return subprocess.CompletedProcess(
            command, int(broken), "" if broken else f"table\n{json.dumps(RESULT)}\n"
        )

    monkeypatch.setattr(suite.subprocess, "run", run)
    (tmp_path / "first.json").write_text("kept")
    failed = suite.run_all({"first": "step --model broken", "second": "step --repeats 3"}, tmp_path)
    assert failed == ["first ended with code 1: python -m benchmarks step --model broken"]
    assert measured[1] == ["-m", "benchmarks", "step", "--repeats", "3", "--json"]
    assert (tmp_path / "first.json").read_text() == "kept"
    assert json.loads((tmp_path / "second.json").read_text()) == RESULT


def test_a_results_folder_in_use_is_refused(tmp_path):
    with folder_lock(tmp_path, "other"):
        done = CliRunner().invoke(app, ["all", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "is in use by process" in done.stderr


@pytest.mark.slow
def test_the_list_in_processes_of_its_own(tmp_path):
    cases = {
        "broken": "rollout --model janus-pro-3b",
        "good": "step --prompts 1 --rollouts 2 --repeats 1 --answer-tokens 2 --device cpu",
    }
    failed = suite.run_all(cases, tmp_path)
    assert failed == ["broken ended with code 2: python -m benchmarks rollout --model janus-pro-3b"]
    assert [path.name for path in tmp_path.iterdir()] == ["good.json"]
    (found,) = read_results(tmp_path).values()
    assert found["command"] == f"python -m benchmarks {cases['good']} --json"
    assert found["contenders"]["pairuni"]["peak_bytes"] > found["contenders"]["pairuni"]["start_bytes"]


def test_unknown_cases_are_refused():
    assert list(suite.chosen("cpu", ["step-tiny-cpu"])) == ["step-tiny-cpu"]
    with pytest.raises(ValueError, match="no case 'step-tiny-cpu' for cuda; choose from rollout-1b-cuda"):
        suite.chosen("cuda", ["step-tiny-cpu"])
