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
    """Temperature 0 as a very low one."""

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


def test_a_look_writes_what_it_scored(tmp_path: Path) -> None:
    policy, out = GreedyFakePolicy(), tmp_path / "run"
    scores = held_out(tmp_path, out)(policy, 40)
    look = json.loads((out / "evaluation" / "step-000040.json").read_text())
    pairs = make_pairs(tmp_path)
    for task in ("understanding", "generation"):
        rewards = [item["reward"] for item in look[task]["items"]]
        assert scores[task] == look[task]["score"] == pytest.approx(sum(rewards) / len(pairs))
        assert look[task]["count"] == len(rewards) == len(pairs)
    for pair, asked, drawn in zip(
        pairs, look["understanding"]["items"], look["generation"]["items"], strict=True
    ):
        question, prompt = pair.understand_ann, pair.generate_ann
        assert asked["question"] == question.question
        assert asked["reply"] == policy.answer(Image.new("RGB", (4, 4)), question.question, max_new_tokens=6)
        assert [asked["reward"]] == REWARDS.understanding([question], [asked["reply"]])
        assert drawn["prompt"] == prompt.prompt
        with Image.open(out / drawn["image"]) as picture:
            assert [drawn["reward"]] == REWARDS.generation([prompt], [picture.convert("RGB")])
        with Image.open(out / asked["image"]) as seen, Image.open(tmp_path / question.image_path) as own:
            assert seen.tobytes() == own.convert("RGB").tobytes()


def test_the_same_policy_is_seen_the_same_at_every_step(tmp_path: Path) -> None:
    policy, out = GreedyFakePolicy(), tmp_path / "run"
    look = held_out(tmp_path, out)
    assert look(policy, 0) == look(policy, 7)
    for index in range(len(look.pairs)):
        first, second = (out / f"evaluation/step-{step:06d}/{index:03d}.png" for step in (0, 7))
        assert first.read_bytes() == second.read_bytes()


def test_a_run_looks_before_it_begins_and_does_not_change_by_looking(tmp_path: Path) -> None:
    def trained(name: str, every: int) -> list[dict[str, Any]]:
        out = tmp_path / name
        settings = run_settings(evaluation={"every": every})
        look = held_out(tmp_path, out)
        Trainer(
            settings, GreedyFakePolicy(), look.pairs, REWARDS, out, image_folder=tmp_path, evaluate=look
        ).run()
        return MetricsLog(out / "metrics.jsonl").rows()

    looking, not_looking = trained("looking", 3), trained("not-looking", 0)
    assert [row["step"] for row in looking] == list(range(7))
    assert [row["step"] for row in looking if "eval/generation" in row] == [0, 3, 6]
    rewards = [[row["generation/reward"] for row in rows] for rows in (looking[1:], not_looking)]
    assert rewards[0] == rewards[1]
    assert not (tmp_path / "not-looking" / "evaluation").exists()
    files = sorted(path.name for path in (tmp_path / "looking" / "evaluation").glob("*.json"))
    assert files == ["step-000000.json", "step-000003.json", "step-000006.json"]


class Sizes:
    """A reward that keeps the sizes of its batches and fails on its nth."""

    name = "sizes"

    def __init__(self, fails: int = 0) -> None:
        self.sizes: list[int] = []
        self.fails = fails

    def __call__(self, records: Any, samples: Any) -> list[float]:
        self.sizes.append(len(samples))
        return [math.nan if len(self.sizes) == self.fails else 0.5] * len(samples)


def test_a_look_asks_a_reward_for_no_more_at_once_than_a_step_does(tmp_path: Path) -> None:
    answers, pictures = Sizes(), Sizes()
    look = held_out(tmp_path, tmp_path / "run", Rewards(understanding=answers, generation=pictures))
    assert look(GreedyFakePolicy(), 1) == {"understanding": 0.5, "generation": 0.5}
    assert (len(look.pairs), answers.sizes, pictures.sizes) == (5, [5], [4, 1])


def test_the_terms_of_a_sum_are_scored_and_named_as_in_training(tmp_path: Path) -> None:
    class Hung:
        name = "hung"

        def __call__(self, records: Any, samples: Any) -> list[float]:
            release.wait(60)
            return [1.0] * len(samples)

    def rewards(*terms: Term) -> Rewards:
        return Rewards(understanding=REWARDS.understanding, generation=WeightedReward(terms), timeout=0.2)

    first = Term(1.0, REWARDS.generation)
    scores = held_out(tmp_path, tmp_path / "run", rewards(first, Term(0.5, Sizes())))(GreedyFakePolicy(), 1)
    look = json.loads((tmp_path / "run/evaluation/step-000001.json").read_text())["generation"]
    for item in look["items"]:
        assert item["terms"]["sizes"] == 0.5
        assert item["reward"] == item["terms"]["redness"] + 0.25
    assert scores["generation"] == pytest.approx(sum(item["reward"] for item in look["items"]) / 5)
    release = threading.Event()
    with pytest.raises(RewardError, match=r"^reward 'hung' gave no answer"):
        held_out(tmp_path, tmp_path / "run", rewards(first, Term(1.0, Hung())))(GreedyFakePolicy(), 1)
    release.set()


@pytest.mark.parametrize("failed_at", [0, 3, 6])
def test_a_look_that_failed_is_made_up_for_when_the_run_goes_on(tmp_path: Path, failed_at: int) -> None:
    settings = run_settings(evaluation={"every": 3})

    def run(out: Path, reward: Sizes, *, resume: bool = False) -> list[dict[str, Any]]:
        rewards = Rewards(understanding=REWARDS.understanding, generation=reward)
        look = held_out(tmp_path, out, rewards)
        Trainer(
            settings, GreedyFakePolicy(), look.pairs, REWARDS, out, image_folder=tmp_path, evaluate=look
        ).run(resume=resume)
        return [
            {key: value for key, value in row.items() if not key.endswith(("time", "_second"))}
            for row in MetricsLog(out / "metrics.jsonl").rows()
        ]

    whole = run(tmp_path / "whole", Sizes())
    with pytest.raises(RewardError, match="'sizes' gave nan"):
        run(tmp_path / "cut", Sizes(fails=1 + 2 * failed_at // 3))
    assert run(tmp_path / "cut", Sizes(), resume=True) == whole
    files = [sorted(path.name for path in (tmp_path / out).rglob("step-*.json")) for out in ("whole", "cut")]
    assert files[0] == files[1]


def test_a_reward_that_is_no_number_is_named(tmp_path: Path) -> None:
    class Broken:
        name = "broken"

        def __call__(self, records: Any, samples: Any) -> list[float]:
            return [math.nan] * len(samples)

    rewards = Rewards(understanding=REWARDS.understanding, generation=Broken())
    with pytest.raises(RewardError, match=r"'broken' gave nan for 0a\.png"):
        held_out(tmp_path, tmp_path / "run", rewards)(GreedyFakePolicy(), 1)
    assert not (tmp_path / "run").exists()
