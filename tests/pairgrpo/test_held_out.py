import json
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, make_pairs, run_settings
from pairuni.pairgrpo.held_out import HeldOutPairs
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.rewards.checked import RewardError
from pairuni.rewards.weighted import Term, WeightedReward
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog


class GreedyFakePolicy(FakePolicy):
    """Replaces temperature 0 with a very low one."""

    def sample_text(self, request: Any) -> Any:
        return super().sample_text(replace(request, temperature=request.temperature or 1e-3))


def held_out(folder: Path, out: Path, rewards: Rewards = REWARDS) -> HeldOutPairs:
    return HeldOutPairs(
        pairs=make_pairs(folder),
        image_folder=folder,
        rewards=rewards,
        rollout=ROLLOUT,
        pairs_per_batch=1,
        seed=3,
        run=RunFolder(out),
    )


def test_evaluation_file_matches_rewards_and_images(tmp_path: Path) -> None:
    policy, out = GreedyFakePolicy(), tmp_path / "run"
    scores = held_out(tmp_path, out)(policy, 40)
    saved = json.loads((out / "evaluation" / "step-000040.json").read_text())
    pairs = make_pairs(tmp_path)
    for task in ("understanding", "generation"):
        rewards = [item["reward"] for item in saved[task]["items"]]
        assert scores[task] == saved[task]["score"] == pytest.approx(sum(rewards) / len(pairs))
        assert saved[task]["count"] == len(rewards) == len(pairs)
    for pair, answered, generated in zip(
        pairs, saved["understanding"]["items"], saved["generation"]["items"], strict=True
    ):
        question, prompt = pair.understand_ann, pair.generate_ann
        assert answered["question"] == question.question
        assert answered["reply"] == policy.answer(
            Image.new("RGB", (4, 4)), question.question, max_new_tokens=6
        )
        assert [answered["reward"]] == REWARDS.understanding([question], [answered["reply"]])
        assert generated["prompt"] == prompt.prompt
        with Image.open(out / generated["image"]) as image:
            assert [generated["reward"]] == REWARDS.generation([prompt], [image.convert("RGB")])
        with Image.open(out / answered["image"]) as seen, Image.open(tmp_path / question.image_path) as own:
            assert seen.tobytes() == own.convert("RGB").tobytes()


def test_evaluation_is_deterministic(tmp_path: Path) -> None:
    policy, out = GreedyFakePolicy(), tmp_path / "run"
    evaluate = held_out(tmp_path, out)
    assert evaluate(policy, 0) == evaluate(policy, 7)
    for index in range(len(evaluate.pairs)):
        first, second = (out / f"evaluation/step-{step:06d}/{index:03d}.png" for step in (0, 7))
        assert first.read_bytes() == second.read_bytes()


def test_evaluation_starts_at_step_0_and_does_not_change_training(tmp_path: Path) -> None:
    def trained(name: str, every: int) -> list[dict[str, Any]]:
        out = tmp_path / name
        settings = run_settings(evaluation={"every": every})
        evaluate = held_out(tmp_path, out)
        Trainer(
            settings,
            GreedyFakePolicy(),
            evaluate.pairs,
            REWARDS,
            out,
            image_folder=tmp_path,
            evaluate=evaluate,
        ).run()
        return MetricsLog(out / "metrics.jsonl").rows()

    evaluated, unevaluated = trained("evaluated", 3), trained("unevaluated", 0)
    assert [row["step"] for row in evaluated] == list(range(7))
    assert [row["step"] for row in evaluated if "eval/generation" in row] == [0, 3, 6]
    rewards = [[row["generation/reward"] for row in rows] for rows in (evaluated[1:], unevaluated)]
    assert rewards[0] == rewards[1]
    assert not (tmp_path / "unevaluated" / "evaluation").exists()
    files = sorted(path.name for path in (tmp_path / "evaluated" / "evaluation").glob("*.json"))
    assert files == ["step-000000.json", "step-000003.json", "step-000006.json"]


class Sizes:
    """A reward that records its batch sizes and returns nan on its nth call."""

    name = "sizes"

    def __init__(self, fails: int = 0) -> None:
        self.sizes: list[int] = []
        self.fails = fails

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.sizes.append(len(samples))
        return [math.nan if len(self.sizes) == self.fails else 0.5] * len(samples)


def test_reward_batches_are_no_larger_than_in_training(tmp_path: Path) -> None:
    answers, images = Sizes(), Sizes()
    evaluate = held_out(tmp_path, tmp_path / "run", Rewards(understanding=answers, generation=images))
    assert evaluate(GreedyFakePolicy(), 1) == {"understanding": 0.5, "generation": 0.5}
    assert (len(evaluate.pairs), answers.sizes, images.sizes) == (5, [5], [4, 1])


def test_terms_of_a_weighted_reward(tmp_path: Path) -> None:
    class Hung:
        name = "hung"

        def __call__(self, records: Any, samples: Any) -> list[float]:
            release.wait(60)
            return [1.0] * len(samples)

    def rewards(*terms: Term) -> Rewards:
        return Rewards(understanding=REWARDS.understanding, generation=WeightedReward(terms), timeout=0.2)

    first = Term(1.0, REWARDS.generation)
    scores = held_out(tmp_path, tmp_path / "run", rewards(first, Term(0.5, Sizes())))(GreedyFakePolicy(), 1)
    saved = json.loads((tmp_path / "run/evaluation/step-000001.json").read_text())["generation"]
    for item in saved["items"]:
        assert item["terms"]["sizes"] == 0.5
        assert item["reward"] == item["terms"]["redness"] + 0.25
    assert scores["generation"] == pytest.approx(sum(item["reward"] for item in saved["items"]) / 5)
    release = threading.Event()
    with pytest.raises(RewardError, match=r"^reward 'hung' gave no answer"):
        held_out(tmp_path, tmp_path / "run", rewards(first, Term(1.0, Hung())))(GreedyFakePolicy(), 1)
    release.set()


@pytest.mark.parametrize("failed_at", [0, 3, 6])
def test_resume_repeats_a_failed_evaluation(tmp_path: Path, failed_at: int) -> None:
    settings = run_settings(evaluation={"every": 3})

    def run(out: Path, reward: Sizes, *, resume: bool = False) -> list[dict[str, Any]]:
        rewards = Rewards(understanding=REWARDS.understanding, generation=reward)
        evaluate = held_out(tmp_path, out, rewards)
        Trainer(
            settings,
            GreedyFakePolicy(),
            evaluate.pairs,
            REWARDS,
            out,
            image_folder=tmp_path,
            evaluate=evaluate,
        ).run(resume=resume)
        return [
            {key: value for key, value in row.items() if not key.endswith(("time", "_second"))}
            for row in MetricsLog(out / "metrics.jsonl").rows()
        ]

    full = run(tmp_path / "full", Sizes())
    with pytest.raises(RewardError, match="'sizes' gave nan"):
        run(tmp_path / "cut", Sizes(fails=1 + 2 * failed_at // 3))
    assert run(tmp_path / "cut", Sizes(), resume=True) == full
    files = [sorted(path.name for path in (tmp_path / out).rglob("step-*.json")) for out in ("full", "cut")]
    assert files[0] == files[1]


def test_nan_reward_is_named(tmp_path: Path) -> None:
    rewards = Rewards(understanding=REWARDS.understanding, generation=Sizes(fails=1))
    with pytest.raises(RewardError, match=r"'sizes' gave nan for 0a\.png"):
        held_out(tmp_path, tmp_path / "run", rewards)(GreedyFakePolicy(), 1)
    assert not (tmp_path / "run").exists()
