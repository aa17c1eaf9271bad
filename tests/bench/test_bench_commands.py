"""The commands: a table, then one JSON object as the last line; with --json the object alone."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from benchmarks import result
from benchmarks.app import app

PEAK = {"start_bytes": 400 << 20, "peak_bytes": 500 << 20}
QUICK = ["--prompts", "2", "--rollouts", "2", "--repeats", "1", "--answer-tokens", "4"]


@pytest.fixture
def no_children(monkeypatch):
    """Peaks without the seconds that child processes take to start."""
    monkeypatch.setattr(result.memory, "peaks", lambda bench, names, settings: dict.fromkeys(names, PEAK))


def bench(*words, device="cpu"):
    done = CliRunner().invoke(app, [*words, *QUICK, "--device", device])
    assert done.exit_code == 0, done.output
    return done.stdout


def check(found, name, contenders, model="tiny"):
    assert found["bench"] == name
    assert set(found["contenders"]) == set(contenders)
    assert found["settings"]["model"] == model
    assert found["hardware"]["device"] == "cpu"
    assert found["hardware"]["cores"] >= 1
    assert found["versions"]["torch"]
    for row in found["contenders"].values():
        assert 0 < row["seconds_min"] <= row["seconds"] <= row["seconds_max"]
        assert row["peak_bytes"] > row["start_bytes"] > 50 << 20


def test_rollout_prints_a_table_and_then_its_object(no_children):
    said = bench("rollout", "--skip", "transformers", "--skip", "peers-batched").splitlines()
    assert "rollout: tiny, 2 x 2, cpu, float32" in said[0]
    assert "images/s" in said[2]
    assert "A decode step moves at least" in " ".join(said[:-1])
    found = json.loads(said[-1])
    check(found, "rollout", ["peers", "pairuni", "pairuni-joint"])
    ours, peers = (found["contenders"][name] for name in ("pairuni", "peers"))
    assert ours["images_per_second"] == pytest.approx(4 / ours["seconds"])
    assert found["times_faster"] == {"peers": peers["seconds"] / ours["seconds"]}
    share = found["decode_bytes"]["distinct"] / ours["seconds"] / found["copy_bytes_per_second"]
    assert ours["bandwidth_share"] == pytest.approx(share)


def test_update_says_how_much_of_the_matrix_rate_it_reaches(no_children):
    left_out = ("--skip", "images-once", "--skip", "pairuni-checkpointed")
    found = json.loads(bench("update", "--vocab-size", "5000", *left_out, "--json"))
    check(found, "update", ["peers", "sampled-positions", "pairuni"])
    assert found["tokens"] > found["distinct_tokens"] > 0
    assert found["flops"]["repeated"] > found["flops"]["distinct"] > 0
    for row in found["contenders"].values():
        assert row["tokens_per_second"] == pytest.approx(found["tokens"] / row["seconds"])
        for share, flops in (("matrix_share", "distinct"), ("matrix_share_repeated", "repeated")):
            rate = found["flops"][flops] / row["seconds"]
            assert row[share] == pytest.approx(rate / found["matrix_flops_per_second"])


def test_a_step_is_rollout_and_update(no_children):
    found = json.loads(bench("step", "--json"))
    check(found, "step", ["pairuni"])
    row = found["contenders"]["pairuni"]
    assert row["rollout_seconds"] + row["update_seconds"] == pytest.approx(row["seconds"], rel=0.05)
    assert found["trained_parameters"] > 1_000_000
    assert len(found["log_prob_differences"]) == 4


def test_a_checkpoint_is_compared_with_none(no_children, tmp_path):
    words = ("--steps", "1", "--every", "50", "--folder", str(tmp_path))
    said = bench("checkpoint", *words).splitlines()
    assert "an interval has 50 steps" in " ".join(said[:-1])
    found = json.loads(said[-1])
    check(found, "checkpoint", ["none", "waiting", "pairuni"])
    assert found["checkpoint_bytes"] > 10_000_000
    none = found["contenders"]["none"]["seconds"]
    for name in ("waiting", "pairuni"):
        row = found["contenders"][name]
        assert row["checkpoint_seconds"] == pytest.approx(row["seconds"] - none)
        assert 0 < row["held_seconds"] < row["seconds_max"]
        cost = row["checkpoint_seconds"]
        assert row["interval_share"] == pytest.approx(cost / (cost + 50 * found["step_seconds"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rollout", "--skip", "vllm"], "bench rollout can skip peers, peers-batched, transformers"),
        (["update", "--skip", "pairuni"], "bench update can skip peers"),
        (["rollout", "--guidance", "1"], "without guidance"),
        (["rollout", "--device", "gpu0"], "'gpu0' is unknown"),
    ],
)
def test_mistakes_are_one_sentence(words, message):
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_result_names_the_commit_of_its_code(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    code = tmp_path / "benchmarks" / "result.py"
    code.parent.mkdir(parents=True)
    code.write_text("before")
    monkeypatch.setattr(result, "__file__", str(code))
    git("init", "--quiet")
    assert result.commit() is None
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    head = result.commit()
    assert len(head) == 40
    (code.parent / "results").mkdir()
    (code.parent / "results" / "step.json").write_text("a result is no change of the code")
    assert result.commit() == head
    code.write_text("after")
    assert result.commit() == f"{head}+changes"


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["rollout", "update", "step"])
def test_on_a_gpu(name):
    """Memory in children and times here, in bfloat16, on whatever GPU there is."""
    found = json.loads(bench(name, "--json", "--dtype", "bfloat16", device="cuda"))
    assert found["hardware"]["gpu"]
    assert all(
        row["seconds"] > 0 and row["start_bytes"] < row["peak_bytes"] for row in found["contenders"].values()
    )
    for key in ("bandwidth_share", "matrix_share"):
        assert all(0 < row[key] < 1 for row in found["contenders"].values() if key in row)


def test_two_processes_against_one(monkeypatch, warm_python):
    monkeypatch.setattr(sys, "executable", warm_python.python)
    words = ["processes", "--prompts", "2", "--rollouts", "2", "--repeats", "1", "--answer-tokens", "4"]
    done = CliRunner().invoke(app, [*words, "--steps", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    check(found, "processes", ["one", "pairuni", "shard"])
    assert found["contenders"]["one"]["times_one_process"] == 1.0
    for row in found["contenders"].values():
        assert row["pairs_per_second"] == pytest.approx(2 / row["seconds"])
    assert found["grad_norm_difference"] < 1e-3


def test_a_step_with_adapters(no_children):
    found = json.loads(bench("step", "--lora", "2", "--json"))
    assert found["trained_parameters"] < 500_000


def test_the_estimated_agreement_beside_the_exact_one(monkeypatch):
    monkeypatch.setattr("benchmarks.agreement.run_module", lambda module, name, *words: PEAK)
    words = ["agreement", "--prompts", "3", "--rollouts", "3", "--steps", "3", "--samples", "60", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    check(found, "agreement", ["without", "pairuni"])
    exact, estimated = found["by_step"]["exact"], found["by_step"]["estimated"]
    assert len(exact) >= 2  # one step may lack a cosine
    assert estimated == pytest.approx(exact, abs=0.02)
    errors = [row["error"] for row in found["estimates"].values()]
    assert errors[0] < errors[-1]
    assert [row["read"] for row in found["estimates"].values()] == pytest.approx(
        [0.776, 0.128, 0.017], abs=0.001
    )


def test_the_original_loop_of_lumina_dimoo_beside_ours(monkeypatch):
    monkeypatch.setattr("benchmarks.diffusion.run_module", lambda module, name, *words: PEAK)
    words = [
        "--prompts",
        "1",
        "--rollouts",
        "2",
        "--repeats",
        "1",
        "--image-size",
        "32",
        "--image-steps",
        "3",
    ]
    done = CliRunner().invoke(app, ["diffusion", *words, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    check(
        found, "diffusion", ["original", "pairuni", "replay", "replay-shrunk", "replay-elbo"], model="small"
    )
    ours = found["contenders"]["pairuni"]
    assert ours["images_per_second"] == pytest.approx(2 / ours["seconds"])
    rate = found["rollout_flops"] / ours["seconds"]
    assert ours["matrix_share"] == pytest.approx(rate / found["matrix_flops_per_second"])
