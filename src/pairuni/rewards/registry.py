"""Rewards by name: a shipped one, or a custom "package.module:Class" or "package.module:function".

Modules are imported when needed. A shipped reward is made by its ``from_settings``, a custom class without arguments.
"""

from __future__ import annotations

from pairuni.config import RewardSettings
from pairuni.custom import load_class, make_object
from pairuni.rewards.custom import make_function
from pairuni.rewards.reward import ImageReward, Reward, TextReward
from pairuni.rewards.weighted import Term, WeightedReward, parse_sum

TEXT_REWARDS = {
    "accuracy": "pairuni.rewards.answers.accuracy:AccuracyReward",
    "format": "pairuni.rewards.answers.format:FormatReward",
    "remote": "pairuni.rewards.service.remote:RemoteReward",
}
IMAGE_REWARDS = {
    "digits": "pairuni.digits.reward:DigitsReward",
    "hpsv2": "pairuni.rewards.clip.hpsv2:HPSv2Reward",
    "clip": "pairuni.rewards.clip.similarity:ClipReward",
    "pickscore": "pairuni.rewards.clip.similarity:PickScoreReward",
    "judge": "pairuni.rewards.judge:JudgeReward",
    "remote": "pairuni.rewards.service.remote:RemoteReward",
    "composition": "pairuni.rewards.composition.reward:CompositionReward",
}


def text_reward(text: str, settings: RewardSettings | None = None) -> TextReward:
    """The understanding reward of a name, or a weighted sum.

    text: a shipped name, "package.module:Class" or "package.module:function" of your own, or a sum such as
    "accuracy + 0.1 * format". settings: of the shipped rewards; by default theirs.

    Raises ValueError naming the known ones.
    """
    return _sum_of(text, TEXT_REWARDS, "understanding", settings)


def image_reward(text: str, settings: RewardSettings | None = None) -> ImageReward:
    """The generation reward of a name, or a weighted sum.

    text: a shipped name, "package.module:Class" or "package.module:function" of your own, or a sum such as
    "hpsv2 + 0.5 * clip". settings: of the shipped rewards; by default theirs.

    Raises ValueError naming the known ones.
    """
    return _sum_of(text, IMAGE_REWARDS, "generation", settings)


def any_reward(text: str, settings: RewardSettings | None = None) -> Reward:
    """The reward of this name for either task, or the weighted sum. Raises ValueError naming the known ones."""
    names = [name for _, name in parse_sum(text)]
    for name in names:
        _check_known(name, {**TEXT_REWARDS, **IMAGE_REWARDS}, "reward")
    answers = any(name in TEXT_REWARDS and name not in IMAGE_REWARDS for name in names)
    return text_reward(text, settings) if answers else image_reward(text, settings)


def _sum_of(text: str, known: dict[str, str], task: str, settings: RewardSettings | None) -> Reward:
    terms = [Term(weight, _make(name, known, task, settings)) for weight, name in parse_sum(text)]
    return terms[0].reward if len(terms) == 1 and terms[0].weight == 1.0 else WeightedReward(terms)


def _make(name: str, known: dict[str, str], task: str, settings: RewardSettings | None) -> Reward:
    _check_known(name, known, f"{task} reward")
    what = f"the {task} reward {name!r}"
    if name in known:
        shipped: Reward = load_class(known[name], what).from_settings(settings or RewardSettings())
        return shipped
    custom: Reward = make_function(name, what) or make_object(name, what, {"name": str})
    return custom


def _check_known(name: str, known: dict[str, str], kind: str) -> None:
    if name not in known and ":" not in name:
        raise ValueError(
            f"no {kind} is called {name!r}; known: {', '.join(known)}, "
            "or package.module:Class (or :function) of your own"
        )
