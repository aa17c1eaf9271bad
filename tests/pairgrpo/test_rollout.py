from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fake_policy import FakePolicy
from pair_batches import REWARDS, ROLLOUT, Redness, make_pairs
from pairuni.pairgrpo.rollout import Rewards, SamplingError, rollout_batch
from pairuni.records import TASKS, Annotation, Task
from pairuni.rewards.checked import RewardError
from reference.pairgrpo_equations import advantage, unified_reward


class Broken:
    name = "broken"

    def __init__(self, bad: Any = None) -> None:
        self.bad = bad

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Any]) -> list[float]:
        if self.bad is None and any(record.question == "which 1?" for record in records):
            raise KeyError("no such thing")
        return [self.bad] * len(samples) if isinstance(self.bad, float) else [0.0]


def test_groups_keep_the_order_of_their_pairs(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path)
    batch = rollout_batch(FakePolicy(), pairs, ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    assert batch.task("understanding").rewards.shape == (5, 5)
    assert batch.task("generation").rewards.shape == (5, 4)
    for index, trajectory in enumerate(batch.task("generation").trajectories):
        assert bytes(trajectory.prompt_ids.tolist()).decode() == pairs[index // 4].generate_ann.prompt
    redness = Redness()([pairs[2].generate_ann] * 4, batch.task("generation").samples[8:12])
    assert batch.task("generation").rewards[2].tolist() == redness
    expected = [advantage(redness, k, 1e-4) for k in range(4)]
    assert batch.task("generation").advantages[2].tolist() == pytest.approx(expected)
    weighted = batch.weighted_advantages("generation")[8:12].tolist()
    assert weighted == pytest.approx([0.8 * value for value in expected])  # sqrt(0.64)


def test_aligned_pairs_have_weight_one(tmp_path: Path) -> None:
    aligned, retrieved, *_ = make_pairs(tmp_path)
    pairs = [pair.model_copy(update={"similarity": 0.81}) for pair in (aligned, retrieved)]
    batch = rollout_batch(FakePolicy(), pairs, ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
    assert batch.weights.tolist() == pytest.approx([1.0, 0.9])


def test_a_unified_reward_gives_both_tasks_the_same_advantages(tmp_path: Path) -> None:
    """ULM-R1's rule: answer k and image k are judged together."""
    pairs, rollout = make_pairs(tmp_path), ROLLOUT.model_copy(update={"understanding": 4})
    options: dict[str, Any] = {"seed": 1, "image_folder": tmp_path}
    plain = rollout_batch(FakePolicy(), pairs, rollout, REWARDS, **options)
    batch = rollout_batch(FakePolicy(), pairs, rollout, REWARDS, unified_reward=0.8, **options)
    for p in range(len(pairs)):
        sides = [plain.task(task).rewards[p].tolist() for task in TASKS]
        rewards = [unified_reward(*sides, k, 0.8) for k in range(4)]
        expected = [advantage(rewards, k, 1e-4) for k in range(4)]
        assert batch.task("understanding").advantages[p].tolist() == pytest.approx(expected)
        assert batch.task("generation").advantages[p].tolist() == pytest.approx(expected)
    assert batch.task("understanding").rewards.equal(plain.task("understanding").rewards)
    assert batch.weighted_advantages("understanding").equal(batch.weighted_advantages("generation"))


@pytest.mark.parametrize("given", ["digits", Redness, lambda records, samples: [1.0] * len(samples), 3])
def test_what_is_no_reward_is_refused_when_rewards_are_made(given: Any) -> None:
    with pytest.raises(ValueError, match=r"the generation reward must be .* pairuni\.image_reward makes one"):
        Rewards(understanding=REWARDS.understanding, generation=given)
    with pytest.raises(
        ValueError, match=r"the understanding reward must be .* pairuni\.text_reward makes one"
    ):
        Rewards(understanding=given, generation=REWARDS.generation)


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="normalise is 'mean', but must be one of 'sum', 'each'"):
        Rewards(understanding=REWARDS.understanding, generation=REWARDS.generation, normalise="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
def test_samples_of_diverged_weights_are_an_error(tmp_path: Path, task: Task) -> None:
    class Diverged(FakePolicy):
        def _sample(self, kind: str, *args: Any) -> Any:
            tokens, log_probs, kept = super()._sample(kind, *args)
            bad = kind == ("text" if task == "understanding" else "image")
            return tokens, log_probs * float("nan") if bad else log_probs, kept

    with pytest.raises(SamplingError, match=f"the log-probs of sampled {task} tokens are not finite"):
        rollout_batch(Diverged(), make_pairs(tmp_path), ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)


def test_samples_depend_on_the_seed(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path)

    def texts(seed: int) -> list[str]:
        batch = rollout_batch(FakePolicy(), pairs, ROLLOUT, REWARDS, seed=seed, image_folder=tmp_path)
        return list(batch.task("understanding").samples)

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (Broken(), r"reward 'broken' failed on 1u.png .*which 1\?.*no such thing"),
        (Broken(float("nan")), r"reward 'broken' gave nan for 0a.png"),
        (Broken("short"), r"reward 'broken' gave 1 scores for 25 samples"),
    ],
    ids=["raises", "nan", "short"],
)
def test_a_failing_reward_names_itself_and_the_record(tmp_path: Path, reward: Broken, message: str) -> None:
    rewards = Rewards(understanding=reward, generation=Redness())
    with pytest.raises(RewardError, match=message):
        rollout_batch(FakePolicy(), make_pairs(tmp_path), ROLLOUT, rewards, seed=1, image_folder=tmp_path)


@pytest.mark.parametrize("broken", ["missing", "truncated", "huge"])
def test_unreadable_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    pairs = make_pairs(tmp_path)
    file = tmp_path / "3u.png"
    if broken == "missing":
        file.unlink()
    elif broken == "huge":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
        Image.new("RGB", (7, 7)).save(file)
    else:
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"3u\.png does not open"):
        rollout_batch(FakePolicy(), pairs, ROLLOUT, REWARDS, seed=1, image_folder=tmp_path)
