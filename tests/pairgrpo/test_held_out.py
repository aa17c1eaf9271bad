import json
import math
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
from pairuni.training.tracking import MetricsLog


class GreedyFakePolicy(FakePolicy):
    """Temperature 0 as a very low one."""

    def sample_text(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["temperature"] = kwargs["temperature"] or 1e-3
        return super().sample_text(*args, **kwargs)


def held_out(folder: Path, out: Path, rewards: Rewards = REWARDS) -> HeldOutPairs:
    return HeldOutPairs(
        pairs=make_pairs(folder), image_folder=folder, rewards=rewards, rollout=ROLLOUT, seed=3, out=out
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


def test_a_reward_that_is_no_number_is_named(tmp_path: Path) -> None:
    class Broken:
        name = "broken"

        def __call__(self, records: Any, samples: Any) -> list[float]:
            return [math.nan] * len(samples)

    rewards = Rewards(understanding=REWARDS.understanding, generation=Broken())
    with pytest.raises(RewardError, match=r"'broken' gave nan for 0a\.png"):
        held_out(tmp_path, tmp_path / "run", rewards)(GreedyFakePolicy(), 1)
    assert not (tmp_path / "run").exists()
