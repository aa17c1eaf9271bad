"""Resume: checks, refusals, logged changes, and what is saved after each kind of failure."""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_trainer import NoisyFakePolicy, rows, same_run, trainer

from fake_policy import FakePolicy
from pair_batches import REWARDS, make_pairs, run_settings
from pairuni.config import RunSettings, load_settings
from pairuni.pairgrpo.preflight import UnusablePairs
from pairuni.pairgrpo.trainer import Trainer
from pairuni.runs.folder import RunFolder
from pairuni.runs.history import describe_settings
from pairuni.runs.state import check_settings
from pairuni.training.checkpoint import CheckpointError, list_checkpoints

GRPO = {"steps": 6, "pairs_per_batch": 2, "learning_rate": 0.05, "warmup_steps": 2}


def partial_run(folder: Path, steps: int = 4) -> Path:
    """A run that has done the first ``steps`` of 6."""
    out = folder / "run"
    trainer(folder, out, run_settings(pairgrpo=GRPO | {"steps": steps})).run()
    return out


def saved(out: Path) -> list[str]:
    return [path.name for path in list_checkpoints(out / "checkpoints")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def scaled_tower() -> FakePolicy:
    policy = NoisyFakePolicy()
    with torch.no_grad():
        policy.module.frozen.mul_(1.5)
    return policy


def one_value() -> FakePolicy:
    policy = NoisyFakePolicy()
    with torch.no_grad():
        policy.module.words.view(-1)[7] += 1e-6
    return policy


POLICIES: dict[str, tuple[Callable[[], FakePolicy], str]] = {
    "frozen part": (scaled_tower, "another policy .*the weights of tiny have changed"),
    "one weight": (one_value, "another policy"),
    "other weights": (lambda: NoisyFakePolicy(spread=0.6), "another policy"),
    "type": (lambda: NoisyFakePolicy(torch.float64), "resume with --policy.dtype float32"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_another_policy_is_refused_without_changes(tmp_path: Path, name: str) -> None:
    out = partial_run(tmp_path)
    before = contents(out)
    make, said = POLICIES[name]
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, out, run_settings(), policy=make()).run(resume=True)
    assert contents(out) == before


def test_renamed_model(tmp_path: Path) -> None:
    out = partial_run(tmp_path)
    settings = run_settings(policy={"model": "mine"})
    with pytest.raises(ValueError, match=r"another policy .*\(mine instead of tiny\)"):
        trainer(tmp_path, out, settings, policy=scaled_tower()).run(resume=True)
    trainer(tmp_path, out, settings).run(resume=True)  # the same model under another name
    assert "before step 5: policy.model = 'tiny'" in describe_settings(RunFolder(out), settings)


def test_replaced_images_and_other_pairs_are_refused(tmp_path: Path) -> None:
    out = partial_run(tmp_path)
    before = contents(out)
    pairs = make_pairs(tmp_path)
    for file in tmp_path.glob("*.png"):
        Image.new("RGB", (4, 4), (9, 9, 9)).save(file)

    def resume(settings: RunSettings, pairs: Any) -> None:
        Trainer(settings, NoisyFakePolicy(), pairs, REWARDS, out, image_folder=tmp_path).run(resume=True)

    with pytest.raises(ValueError, match=r"the images .* differ"):
        resume(run_settings(), pairs)
    with pytest.raises(ValueError, match=r"the pairs differ .*: the content of the pair file has changed"):
        resume(run_settings(), pairs[:-1])
    budget = run_settings(data={"pairs": "pairs.jsonl", "budget": 4})
    with pytest.raises(ValueError, match=r"the pairs differ .* \(data.budget was none, is 4\)"):
        resume(budget, pairs[:-1])
    assert contents(out) == before


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"seed": 4}, "the seed of its checkpoint is 3, not 4"),
        ({"pairgrpo": GRPO | {"pairs_per_batch": 1}}, "2 pairs per step, not 1"),
        ({"pairgrpo": GRPO | {"steps": 3}}, "at step 4, beyond pairgrpo.steps = 3"),
        ({"policy": {"model": "tiny", "trainable": ["language_model"]}}, "policy.trainable was"),
    ],
)
def test_incompatible_settings_are_refused(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    out = partial_run(tmp_path)
    before = contents(out)
    with pytest.raises(ValueError, match=said):
        check_settings(RunFolder(out), run_settings(**sections))
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, out, run_settings(**sections)).run(resume=True)
    assert contents(out) == before


def test_other_changes_are_logged_with_their_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = partial_run(tmp_path)
    changed = run_settings(
        pairgrpo=GRPO | {"learning_rate": 0.01, "beta": 0.1},
        reward={"generation": "clip"},
        logging={"samples_every": 1},
    )
    with caplog.at_level("WARNING", logger="pairuni"):
        trainer(tmp_path, out, changed).run(resume=True)
    assert "from step 5 on: pairgrpo.learning_rate is 0.01, was 0.05" in caplog.text
    (row,) = [json.loads(line) for line in RunFolder(out).history.read_text().splitlines()]
    assert row["step"] == 5
    assert row["changed"] == {
        "pairgrpo.steps": {"from": 4, "to": 6},
        "pairgrpo.learning_rate": {"from": 0.05, "to": 0.01},
        "pairgrpo.beta": {"from": 0.0, "to": 0.1},
        "reward.generation": {"from": "hpsv2", "to": "clip"},
        "logging.samples_every": {"from": 3, "to": 1},
    }
    text = describe_settings(RunFolder(out), changed)
    assert "# before step 5: pairgrpo.beta = 0.0\n" in text
    (tmp_path / "config.toml").write_text(text)
    assert load_settings(RunSettings, tmp_path / "config.toml") == changed
    trainer(tmp_path, out, run_settings()).run(resume=True)  # the run is finished, so nothing changes
    assert len(RunFolder(out).history.read_text().splitlines()) == 1


def test_changes_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    out = partial_run(tmp_path)
    RunFolder(out).history.write_text(
        json.dumps({"step": 5, "changed": {"pairgrpo.beta": {"from": 0, "to": 1}}}) + "\n"
    )
    trainer(tmp_path, out, run_settings(pairgrpo=GRPO | {"steps": 4})).run(resume=True)
    trainer(tmp_path, out, run_settings()).run(resume=True)
    (row,) = [json.loads(line) for line in RunFolder(out).history.read_text().splitlines()]
    assert list(row["changed"]) == ["pairgrpo.steps"]


class FailingPolicy(NoisyFakePolicy):
    """Raises at the nth batch of rollouts or the nth replay."""

    def __init__(self, error: BaseException, *, sample: int = 0, replay: int = 0) -> None:
        super().__init__()
        self.error, self.left, self.replay = error, sample, replay

    def sample_text(self, request: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return super().sample_text(request)

    def log_probs(self, trajectories: Any) -> Any:
        self.replay -= 1
        if self.replay == 0:
            raise self.error
        return super().log_probs(trajectories)


ERRORS = [
    ValueError("too long"),
    OSError(errno.EIO, "bad"),
    RuntimeError("oom"),
    KeyError("x"),
    SystemExit(1),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["sample", "replay"])
def test_any_exception_saves_the_last_complete_step(tmp_path: Path, error: BaseException, where: str) -> None:
    settings = run_settings(checkpoint={"every": 0})
    trainer(tmp_path, tmp_path / "full", settings).run()
    out = tmp_path / "cut"
    with pytest.raises(type(error)):
        trainer(tmp_path, out, settings, policy=FailingPolicy(error, **{where: 4})).run()
    assert saved(out) == ["step-000003"]
    trainer(tmp_path, out, settings).run(resume=True)
    same_run(tmp_path / "full", out)


def test_failure_between_two_updates_keeps_the_last_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = {"pairgrpo": GRPO | {"updates_per_step": 2}}
    trainer(tmp_path, tmp_path / "full", run_settings(**twice)).run()
    out = tmp_path / "cut"
    # two replays per step: the eighth is the second update of step 4
    with pytest.raises(RuntimeError, match="oom"), caplog.at_level("WARNING", logger="pairuni"):
        trainer(
            tmp_path, out, run_settings(**twice), policy=FailingPolicy(RuntimeError("oom"), replay=8)
        ).run()
    assert saved(out) == ["step-000002"]
    assert "step 4 had already changed the weights" in caplog.text
    trainer(tmp_path, out, run_settings(**twice)).run(resume=True)
    same_run(tmp_path / "full", out)


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples"])
def test_full_disk_while_a_step_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    settings = run_settings(checkpoint={"every": 0})
    trainer(tmp_path, tmp_path / "full", settings).run()
    out = tmp_path / "cut"

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(out / name))

    running = trainer(tmp_path, out, settings)
    step = running._train_step

    def third(stop: Any) -> Any:
        if running._position.step == 2:
            place = running._metrics if name == "metrics.jsonl" else None
            if place is not None:
                monkeypatch.setattr(place, "append", full)
            else:
                monkeypatch.setattr("pairuni.pairgrpo.trainer.save_samples", full)
        return step(stop)

    monkeypatch.setattr(running, "_train_step", third)
    with pytest.raises(OSError, match="No space left") as caught:
        running.run()
    assert caught.value.filename == str(out / name)
    monkeypatch.undo()
    assert saved(out) == ["step-000003"]
    trainer(tmp_path, out, settings).run(resume=True)
    if name == "metrics.jsonl":
        same_run(tmp_path / "full", out)
    assert [row["step"] for row in rows(out)] == [1, 2, 3, 4, 5, 6]


def test_damaged_checkpoint_resumes_from_the_previous_one(tmp_path: Path) -> None:
    trainer(tmp_path, tmp_path / "full", run_settings(checkpoint={"every": 2, "keep": 1})).run()
    out = tmp_path / "run"
    trainer(tmp_path, out, run_settings(pairgrpo=GRPO | {"steps": 4})).run()
    file = out / "checkpoints" / "step-000004" / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    trainer(tmp_path, out, run_settings(checkpoint={"every": 2, "keep": 1})).run(resume=True)
    assert rows(out) == rows(tmp_path / "full")
    assert saved(out) == ["step-000006"]
    assert (out / "checkpoints" / "damaged-step-000004").is_dir()


def test_resume_deletes_checkpoints_above_keep(tmp_path: Path) -> None:
    out = partial_run(tmp_path)
    assert saved(out) == ["step-000002", "step-000004"]
    done = run_settings(pairgrpo=GRPO | {"steps": 4}, checkpoint={"every": 2, "keep": 1})
    trainer(tmp_path, out, done).run(resume=True)
    assert saved(out) == ["step-000004"]


def test_the_checkpoint_with_the_best_held_out_score_is_kept(tmp_path: Path) -> None:
    scores = {0: 0.9, 2: 0.4, 4: 0.6, 6: 0.5}  # the untrained policy has no checkpoint

    def run(out: Path, *, resume: bool = False, **checkpoint: int) -> list[str]:
        settings = run_settings(checkpoint={"every": 2} | checkpoint, evaluation={"every": 2})
        trainer(
            tmp_path,
            out,
            settings,
            evaluate=lambda policy, step: {
                "understanding": scores[step] + 0.1,
                "generation": scores[step] - 0.1,
            },
        ).run(resume=resume)
        return saved(out)

    assert run(tmp_path / "best", keep=1, keep_best=1) == ["step-000004", "step-000006"]
    assert run(tmp_path / "best", keep=1, keep_best=0, resume=True) == ["step-000006"]
    assert run(tmp_path / "all", keep=2, keep_best=5) == ["step-000002", "step-000004", "step-000006"]


def test_unusable_pairs_are_named_before_the_first_step(tmp_path: Path) -> None:
    class Picky(NoisyFakePolicy):
        def question_fault(self, text: str) -> str | None:
            return "is too much" if text in ("which 3?", "draw 0a") else None

    pairs = make_pairs(tmp_path)
    (tmp_path / "1u.png").write_bytes((tmp_path / "1u.png").read_bytes()[:40])
    (tmp_path / "2u.png").unlink()
    (tmp_path / "4g.png").unlink()  # no question is about this image
    running = Trainer(run_settings(), Picky(), pairs, REWARDS, tmp_path / "run", image_folder=tmp_path)
    with pytest.raises(UnusablePairs) as caught:
        running.run()
    said = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in said] == [
        "pair 1, field generate_ann.prompt",
        "pair 2, field understand_ann.image_path",
        "pair 3, field understand_ann.image_path",
        "pair 4, field understand_ann.question",
    ]
    assert not (tmp_path / "run").exists()


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one file of a run; returns a description."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    data = path.read_bytes()
    kind = rng.choice(["flip", "cut", "delete", "empty", "line"])
    if kind == "flip" and data:
        place = rng.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :])
    elif kind == "cut":
        path.write_bytes(data[: rng.randrange(len(data) + 1)])
    elif kind == "delete":
        path.unlink()
    elif kind == "line":
        path.write_bytes(
            data + rng.choice([b"[]\n", b'{"step": 1e999}\n', b"\xff\n", b'{"step": "7"}\n', b"{\n"])
        )
    else:
        path.write_bytes(b"")
    return f"{kind} {path.relative_to(folder)}"


@pytest.mark.parametrize(
    "count", [12, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_resume_of_a_damaged_folder_is_exact_or_an_error(tmp_path: Path, count: int) -> None:
    trainer(tmp_path, tmp_path / "full", run_settings()).run()
    first = partial_run(tmp_path)
    rng = random.Random(count)
    for number in range(count):
        out = tmp_path / f"{number}"
        shutil.copytree(first, out)
        what = [damage(out, rng) for _ in range(rng.randint(1, 2))]
        error = None
        try:
            trainer(tmp_path, out, run_settings()).run(resume=True)
        except (ValueError, OSError, CheckpointError) as refused:
            error = refused
        if error is not None:
            assert str(out) in f"{error} {getattr(error, 'filename', '')}", what
        else:
            final = (out / "final" / "model.safetensors").read_bytes()
            assert final == (tmp_path / "full" / "final" / "model.safetensors").read_bytes(), what
        shutil.rmtree(out)
