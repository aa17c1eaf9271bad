import pytest

from pairuni.rewards.accuracy import AccuracyReward
from pairuni.rewards.registry import IMAGE_REWARDS, image_reward, text_reward


def test_short_name() -> None:
    assert isinstance(text_reward("accuracy"), AccuracyReward)
    assert "digits" in IMAGE_REWARDS


def test_own_class() -> None:
    assert isinstance(image_reward("pairuni.rewards.accuracy:AccuracyReward"), AccuracyReward)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"no understanding reward is called 'acuracy'; known: accuracy"):
        text_reward("acuracy")
    with pytest.raises(ValueError, match=r"module no_such_module.x, not found"):
        text_reward("no_such_module.x:Reward")
    with pytest.raises(ValueError, match=r"has no class Nothing"):
        text_reward("pairuni.rewards.accuracy:Nothing")
