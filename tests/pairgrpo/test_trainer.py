import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fake_policy import FakePolicy
from pair_batches import REWARDS, Constant, make_pairs, run_settings
from pairuni.config import RunSettings
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.policies.policy import UnifiedPolicy
from pairuni.rewards.checked import RewardError
from pairuni.rewards.weighted import Term, WeightedReward
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.trackers.trackers import Trackers
from pairuni.training.checkpoint import list_checkpoints, load_checkpoint

TIMES = {"step_time", "rollout_time", "update_time", "tokens_per_second"}


class NoisyFakePolicy(FakePolicy):
    """Also uses torch's global random generator, which a resume must restore."""

    def sample_text(self, request: Any) -> Any:
        return super().sample_text(replace(request, seed=request.seed + int(torch.randint(1000, ()))))


class Stop:
    """A reward that acts on its nth call."""

    name = "stop"

    def __init__(self, call: int, act: Callable[[], None]) -> None:
        self.calls, self.call, self.act = 0, call, act

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.calls += 1
        if self.calls == self.call:
            self.act()
        return REWARDS.understanding(records, samples)


class Killed(BaseException):
    """Stands for kill -9: nothing is saved after it."""


class Replaced(Stop):
    """A reward that returns ``act()`` from its nth call on."""

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.calls += 1
        answer: Any = REWARDS.understanding(records, samples) if self.calls < self.call else self.act()
        return answer


def trainer(
    folder: Path, out: Path, settings: RunSettings, *, policy: UnifiedPolicy | None = None, **kwargs: Any
) -> Trainer:
    return Trainer(
        settings,
        policy or NoisyFakePolicy(),
        make_pairs(folder),
        kwargs.pop("rewards", REWARDS),
        out,
        image_folder=folder,
        **kwargs,
    )


def rows(out: Path) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if key not in TIMES}
        for row in MetricsLog(out / "metrics.jsonl").rows()
    ]


def same_run(one: Path, two: Path) -> None:
    """Weights, optimizer, generators, metrics and samples are equal bit for bit."""
    first, second = list_checkpoints(one / "checkpoints")[-1], list_checkpoints(two / "checkpoints")[-1]
    a, b = load_checkpoint(first), load_checkpoint(second)
    assert (a.step, a.state) == (b.step, b.state)
    for group in a.tensors:
        assert set(a.tensors[group]) == set(b.tensors[group])
        for name, tensor in a.tensors[group].items():
            assert torch.equal(tensor, b.tensors[group][name]), (group, name)
    assert rows(one) == rows(two)
    assert (one / "samples/samples.jsonl").read_text() == (two / "samples/samples.jsonl").read_text()
    for file in (one / "samples").rglob("*.png"):
        assert file.read_bytes() == (two / "samples" / file.relative_to(one / "samples")).read_bytes()
    x, y = load_file(one / "final/model.safetensors"), load_file(two / "final/model.safetensors")
    assert all(torch.equal(x[name], y[name]) for name in x)


RESUME_OPTIONS: list[dict[str, Any]] = [
    {},
    {"beta": 0.1, "updates_per_step": 2, "micro_batch_tokens": 30},
    {"batches_per_step": 2, "pairs_per_batch": 1, "weight_decay": 0.1},
    {"schedule": "cosine", "warmup_steps": 0, "warmup_share": 0.4, "min_learning_rate_share": 0.1},
]


@pytest.mark.parametrize("options", RESUME_OPTIONS, ids=str)
@pytest.mark.parametrize("killed_in_step", [1, 4, 5])
def test_resumed_equals_uninterrupted(tmp_path: Path, options: dict[str, Any], killed_in_step: int) -> None:
    changes = {"steps": 6, "pairs_per_batch": 2, "learning_rate": 0.05, "warmup_steps": 3, "beta": 0.0}
    settings = run_settings(pairgrpo=changes | options, evaluation={"every": 2})

    def evaluate(policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        return {"random": float(torch.rand(())), "scale": float(policy.module.shared.detach())}  # type: ignore[arg-type]

    full = trainer(tmp_path, tmp_path / "full", settings, evaluate=evaluate).run()
    assert (full.steps, full.interrupted) == (6, False)

    def kill() -> None:
        raise Killed

    calls = killed_in_step * settings.pairgrpo.batches_per_step
    rewards = Rewards(understanding=Stop(calls, kill), generation=REWARDS.generation)
    out = tmp_path / "cut"
    with pytest.raises(Killed):
        trainer(tmp_path, out, settings, rewards=rewards, evaluate=evaluate).run()
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "rew')
    (out / "checkpoints" / ".step-000006.partial").mkdir()
    torch.manual_seed(99)
    result = trainer(tmp_path, out, settings, evaluate=evaluate).run(resume=True)
    assert result.steps == 6
    same_run(tmp_path / "full", out)
    assert [row["step"] for row in rows(out)] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path: Path, number: int) -> None:
    settings = run_settings()
    trainer(tmp_path, tmp_path / "full", settings).run()
    rewards = Rewards(
        understanding=Stop(3, lambda: os.kill(os.getpid(), number)), generation=REWARDS.generation
    )
    out = tmp_path / "cut"
    handler = signal.getsignal(number)
    result = trainer(tmp_path, out, settings, rewards=rewards).run()
    assert signal.getsignal(number) is handler
    assert (result.steps, result.interrupted) == (3, True)
    assert list_checkpoints(out / "checkpoints")[-1].name == "step-000003"
    assert not (out / "final").exists()
    assert not trainer(tmp_path, out, settings).run(resume=True).interrupted
    same_run(tmp_path / "full", out)


def test_two_signals_stop_at_once_and_keep_the_last_complete_step(tmp_path: Path) -> None:
    settings = run_settings(checkpoint={"every": 0})

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    trainer(tmp_path, tmp_path / "full", settings).run()
    out = tmp_path / "cut"
    rewards = Rewards(understanding=Stop(4, twice), generation=REWARDS.generation)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, out, settings, rewards=rewards).run()
    assert [path.name for path in list_checkpoints(out / "checkpoints")] == ["step-000003"]
    trainer(tmp_path, out, settings).run(resume=True)
    same_run(tmp_path / "full", out)


def test_the_fake_policy_learns_both_tasks(tmp_path: Path) -> None:
    settings = run_settings(
        pairgrpo={"steps": 50, "pairs_per_batch": 5, "learning_rate": 0.05},
        checkpoint={"every": 0},
        logging={"samples_every": 0},
    )
    trainer(tmp_path, tmp_path / "run", settings).run()
    history = rows(tmp_path / "run")
    for task, gain in (("understanding", 0.5), ("generation", 0.4)):
        rewards = [row[f"{task}/reward"] for row in history]
        assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + gain, task


def test_every_epoch_uses_every_pair(tmp_path: Path) -> None:
    seen: list[str] = []

    class Recording:
        name = "recording"

        def __call__(self, records: Any, samples: Any) -> list[float]:
            seen.append(records[0].question)
            return REWARDS.understanding(records, samples)

    settings = run_settings(pairgrpo={"steps": 5, "pairs_per_batch": 1, "batches_per_step": 2})
    rewards = Rewards(understanding=Recording(), generation=REWARDS.generation)
    trainer(tmp_path, tmp_path / "run", settings, rewards=rewards).run()
    questions = [f"which {index}?" for index in range(5)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == questions
    assert seen[:5] != seen[5:]


def test_files_of_a_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    tracked: list[tuple[int, float | None]] = []

    class Recorder:
        name = "recorder"

        def begin(self) -> int:
            return -1

        def log(self, metrics: Mapping[str, float], pictures: object, step: int) -> None:
            tracked.append((step, metrics.get("understanding/reward")))

        def close(self) -> None:
            pass

    settings = run_settings(evaluation={"every": 4})
    evaluate = {"evaluate": lambda policy, step: {"understanding": step / 8}}
    trainer(tmp_path, out, settings, trackers=Trackers(RunFolder(out), [Recorder()]), **evaluate).run()
    untouched, *history = rows(out)
    assert untouched == {"step": 0, "eval/understanding": 0.0}
    assert tracked.pop(0) == (0, None)
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.025, 0.05, 0.05, 0.05, 0.05, 0.05])
    assert [row.get("eval/understanding") for row in history] == [None, None, None, 0.5, None, None]
    assert [row["epoch"] for row in history] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
    tokens = [row["num_tokens"] for row in history]
    assert tokens == sorted(tokens)
    assert tracked == [(row["step"], row["understanding/reward"]) for row in history]
    line = MetricsLog(out / "metrics.jsonl").rows()[-1]
    assert line["tokens_per_second"] > 0
    assert line["step_time"] == pytest.approx(line["rollout_time"] + line["update_time"])

    samples = MetricsLog(out / "samples" / "samples.jsonl").rows()
    assert [sample["step"] for sample in samples] == [3, 3, 6, 6]
    sample = samples[0]
    assert sample["pair_weight"] == pytest.approx(sample["similarity"] ** 0.5)
    assert len(sample["answers"]) == 5
    assert len(sample["pictures"]) == 4
    for generated in sample["pictures"]:
        with Image.open(out / "samples" / generated["image"]) as image:
            red = sum(pixel == (255, 0, 0) for pixel in image.convert("RGB").getdata()) / 4
        assert generated["reward"] == red
    assert sum(answer["advantage"] for answer in sample["answers"]) == pytest.approx(0.0, abs=1e-9)
    assert {"prompt", "question", "answer", "image_path", "kind"} <= set(sample)

    assert [path.name for path in list_checkpoints(out / "checkpoints")] == ["step-000004", "step-000006"]
    final = load_file(out / "final" / "model.safetensors")
    trained = load_checkpoint(out / "checkpoints" / "step-000006").tensors["trained"]
    assert torch.equal(final["words"], trained["words"])
    assert "frozen" in final
    assert "frozen" not in trained
    assert sorted(p.name for p in out.iterdir()) == ["checkpoints", "final", "metrics.jsonl", "samples"]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    trainer(tmp_path, tmp_path / "run", run_settings()).run()
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert trainer(tmp_path, tmp_path / "run", run_settings()).run(resume=True).steps == 6
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_held_out_scores_may_be_scalars_of_numpy_and_torch(tmp_path: Path) -> None:
    def evaluate(policy: UnifiedPolicy, step: int) -> Mapping[str, Any]:
        return {"numpy": np.float32(0.5), "torch": torch.tensor(0.25), "whole": np.int64(step)}

    settings = run_settings(pairgrpo={"steps": 1}, evaluation={"every": 1})
    trainer(tmp_path, tmp_path / "run", settings, evaluate=evaluate).run()
    scores = {"eval/numpy": 0.5, "eval/torch": 0.25, "eval/whole": 1.0}
    assert scores.items() <= rows(tmp_path / "run")[-1].items()


def test_any_seed_will_do(tmp_path: Path) -> None:
    settings = run_settings(seed=2**64 + 3, pairgrpo={"steps": 1})
    assert trainer(tmp_path, tmp_path / "run", settings).run().steps == 1


def test_a_resumed_run_knows_what_its_earlier_steps_took(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = trainer(tmp_path, out, run_settings(pairgrpo={"steps": 2})).run()
    assert first.earlier_seconds == 0.0
    taken = sum(row["step_time"] for row in MetricsLog(out / "metrics.jsonl").rows())
    second = trainer(tmp_path, out, run_settings(pairgrpo={"steps": 3})).run(resume=True)
    assert second.earlier_seconds == pytest.approx(taken)
    assert second.earlier_seconds > 0.0


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_what_a_caller_has_set_in_torch_changes_nothing_and_stays(
    tmp_path: Path, without: Callable[[], Any]
) -> None:
    trainer(tmp_path, tmp_path / "plain", run_settings()).run()
    made = trainer(tmp_path, tmp_path / "run", run_settings())
    torch.manual_seed(7)
    with without():
        expected = torch.rand(3)
        torch.manual_seed(7)
        made.run()
        assert torch.equal(torch.rand(3), expected)
        assert not torch.is_grad_enabled()
    same_run(tmp_path / "plain", tmp_path / "run")


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    trainer(tmp_path, tmp_path / "run", run_settings()).run()
    with pytest.raises(ValueError, match="already holds a run"):
        trainer(tmp_path, tmp_path / "run", run_settings()).run()


def test_no_pairs_or_no_task(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pairs"):
        Trainer(run_settings(), FakePolicy(), [], REWARDS, tmp_path, image_folder=tmp_path)
    with pytest.raises(ValueError, match=r"understanding_weight and .*generation_weight are both 0"):
        run_settings(pairgrpo={"understanding_weight": 0.0, "generation_weight": 0.0})


def disconnect() -> None:
    raise ConnectionError("reward server is gone")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (disconnect, "'stop' failed .*reward server is gone"),
        (lambda: [float("nan")] * 10, r"'stop' gave nan for (sample )?.*\.png"),
        (lambda: [1.0], "'stop' gave 1 scores for 10 samples"),
        (lambda: ["high"] * 10, "'stop' gave 'high', not a number, for"),
        (lambda: time.sleep(30), r"'stop' gave no answer within 0\.5 seconds on .*\.png"),
    ],
    ids=["raises", "nan", "count", "words", "hangs"],
)
def test_failing_reward_stops_saves_and_resumes(
    tmp_path: Path, failure: Callable[[], Any], said: str
) -> None:
    full = trainer(tmp_path, tmp_path / "full", run_settings()).run()
    out = tmp_path / "cut"
    failing = Rewards(understanding=Replaced(4, failure), generation=REWARDS.generation, timeout=0.5)
    with pytest.raises(RewardError, match=said):
        trainer(tmp_path, out, run_settings(), rewards=failing).run()
    assert [path.name for path in list_checkpoints(out / "checkpoints")] == ["step-000002", "step-000003"]
    assert len(rows(out)) == 3
    assert trainer(tmp_path, out, run_settings()).run(resume=True) == full
    same_run(tmp_path / "full", out)


def test_a_trainer_resumes_what_it_has_begun_itself(tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyError("no such thing")

    trainer(tmp_path, tmp_path / "full", run_settings()).run()
    # called once more to find the record, and again after the resume
    rewards = Rewards(understanding=Stop(4, fail), generation=REWARDS.generation)
    begun = trainer(tmp_path, tmp_path / "cut", run_settings(), rewards=rewards)
    with pytest.raises(RewardError, match="no such thing"):
        begun.run()
    assert begun.run(resume=True).steps == 6
    same_run(tmp_path / "full", tmp_path / "cut")

    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint, and the policy has trained"):
        begun.run(resume=True)


def test_weighted_reward_logs_its_terms(tmp_path: Path) -> None:
    summed = WeightedReward([Term(2.0, REWARDS.understanding), Term(-0.5, Constant())])
    rewards = Rewards(understanding=summed, generation=REWARDS.generation)
    trainer(tmp_path, tmp_path / "run", run_settings(), rewards=rewards).run()
    alone = Rewards(understanding=REWARDS.understanding, generation=REWARDS.generation)
    trainer(tmp_path, tmp_path / "alone", run_settings(), rewards=alone).run()
    row, single = rows(tmp_path / "run")[0], rows(tmp_path / "alone")[0]
    assert row["understanding/reward/right-answer"] == pytest.approx(single["understanding/reward"])
    assert row["understanding/reward/constant"] == pytest.approx(0.1)
    assert row["understanding/reward"] == pytest.approx(2 * single["understanding/reward"] - 0.05)
    assert "generation/reward/redness" not in row
    sample = MetricsLog(tmp_path / "run" / "samples" / "samples.jsonl").rows()[0]
    for answer in sample["answers"]:
        terms = answer["rewards"]
        assert answer["reward"] == pytest.approx(2 * terms["right-answer"] - 0.5 * terms["constant"])
    assert all("rewards" not in image for image in sample["pictures"])


def test_the_trainer_imports_no_model_family_and_no_data_set() -> None:
    code = (
        "import sys; import pairuni.pairgrpo.trainer, pairuni.pairgrpo.agreement;"
        "print([m for m in sys.modules if m.startswith('pairuni.') and"
        " any(part in m for part in ('janus', 'digits', 'pairug'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(found.stdout.replace("'", '"')) == []
