import inspect

import pytest

from pairuni.config import ClipSettings, HPSv2Settings, PickScoreSettings, RewardSettings
from pairuni.records import Annotation
from pairuni.rewards.answers.accuracy import AccuracyReward
from pairuni.rewards.clip.hpsv2 import HPSv2Reward
from pairuni.rewards.clip.similarity import ClipReward, PickScoreReward
from pairuni.rewards.registry import IMAGE_REWARDS, any_reward, image_reward, text_reward


def test_short_name() -> None:
    assert isinstance(text_reward("accuracy"), AccuracyReward)
    assert "digits" in IMAGE_REWARDS


def test_shipped_rewards_are_made_from_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, dict[str, object]] = {}
    for kind in (HPSv2Reward, ClipReward, PickScoreReward):
        monkeypatch.setattr(kind, "__init__", lambda self, **given: made.update({self.name: given}))
    settings = RewardSettings(
        hpsv2=HPSv2Settings(checkpoint="a.pt", version="2.0", batch_size=3),
        clip=ClipSettings(model="b", device="cpu"),
        pickscore=PickScoreSettings(dtype="bfloat16"),
    )
    for name in ("hpsv2", "clip", "pickscore"):
        assert image_reward(name, settings).name == name
        assert made[name] == getattr(settings, name).model_dump()
    assert (made["hpsv2"]["checkpoint"], made["hpsv2"]["version"]) == ("a.pt", "2.0")
    assert made["pickscore"]["model"] == "yuvalkirstain/PickScore_v1"


@pytest.mark.parametrize("kind", [HPSv2Reward, ClipReward, PickScoreReward])
def test_default_arguments_are_the_default_settings(kind: type) -> None:
    given = inspect.signature(kind).parameters
    settings = getattr(RewardSettings(), kind.name)
    assert {name: one.default for name, one in given.items()} == settings.model_dump()


def test_custom_class() -> None:
    assert isinstance(image_reward("pairuni.rewards.answers.accuracy:AccuracyReward"), AccuracyReward)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no understanding reward is called 'acuracy'; known: accuracy"):
        text_reward("acuracy")
    with pytest.raises(ValueError, match=r"module no_such_module.x, which was not found"):
        text_reward("no_such_module.x:Reward")
    with pytest.raises(ValueError, match=r"has no class Nothing"):
        text_reward("pairuni.rewards.answers.accuracy:Nothing")


def brightness(records: object, samples: list[float]) -> list[float]:
    """A plain function as a reward."""
    return [sample / 2 for sample in samples]


def one_argument(records: object) -> list[float]:
    return []


def test_custom_function() -> None:
    reward = image_reward("test_registry:brightness")
    assert reward.name == "brightness"
    assert reward([None], [3.0]) == [1.5]  # type: ignore[list-item]
    summed = image_reward("0.5 * test_registry:brightness + test_registry:Named")
    assert [term.reward.name for term in summed.terms] == ["brightness", "named"]  # type: ignore[attr-defined]


NOT_CALLED = 3


class Named:
    name = "named"

    def __call__(self, records: object, samples: list[float]) -> list[float]:
        return samples


class Nameless:
    def __call__(self, records: object, samples: object) -> list[float]:
        return []


class Uncalled:
    name = "uncalled"


class Demanding(Nameless):
    name = "demanding"

    def __init__(self, model: str) -> None:
        self.model = model


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("Nameless", "the class must have `name`, a str"),
        ("Uncalled", "the class must have `__call__`"),
        ("Demanding", r"the class cannot be made without arguments \(.*'model'"),
        ("one_argument", "the function must take records and samples"),
        ("NOT_CALLED", "test_registry has no class NOT_CALLED"),
    ],
)
def test_an_invalid_reward_is_refused_before_it_is_used(own: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"the generation reward 'test_registry:{own}'.*{said}"):
        image_reward(f"test_registry:{own}")


def test_a_reward_of_either_task() -> None:
    record = Annotation(image_path="-", prompt="-", question="how many?", answer="2")
    assert isinstance(any_reward("accuracy"), AccuracyReward)
    assert any_reward("accuracy + 0.5 * format")([record], ["<think>1+1</think><answer>2</answer>"]) == [1.5]
    assert any_reward("digits").name == "digits"
    with pytest.raises(ValueError, match=r"no reward is called 'nothing'; known: accuracy, .*composition"):
        any_reward("nothing")
