from typing import Any

import pytest

from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError
from pairuni.rewards.registry import image_reward, text_reward
from pairuni.rewards.weighted import Term, WeightedReward, check_records, parse_sum, terms_of

RECORD = Annotation(image_path="a.png", prompt="p", question="how many?", answer="4")


class Given:
    def __init__(self, name: str, scores: list[Any]) -> None:
        self.name, self.scores = name, scores

    def __call__(self, records: Any, samples: Any) -> list[Any]:
        return self.scores


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("accuracy", [(1.0, "accuracy")]),
        ("accuracy + 0.1 * format", [(1.0, "accuracy"), (0.1, "format")]),
        ("2*hpsv2+.5*my_rewards:Redness", [(2.0, "hpsv2"), (0.5, "my_rewards:Redness")]),
        ("a + -1e-1 * b.c:D_2", [(1.0, "a"), (-0.1, "b.c:D_2")]),
        ("1e+2 * a", [(100.0, "a")]),
    ],
)
def test_a_sum_is_parsed(text: str, terms: list[tuple[float, str]]) -> None:
    assert parse_sum(text) == terms


@pytest.mark.parametrize(
    "text", ["", "accuracy +", "+ accuracy", "accuracy format", "0.1 format", "a * 2", "a - b", "a:b:c"]
)
def test_an_invalid_sum_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a sum of rewards"):
        parse_sum(text)


@pytest.mark.parametrize("weight", ["0", "0.0", "1e999"])
def test_a_weight_must_be_finite_and_not_0(weight: str) -> None:
    with pytest.raises(ValueError, match="the reward format has weight"):
        parse_sum(f"accuracy + {weight} * format")


def test_sums_by_name() -> None:
    summed = text_reward("accuracy + 0.1 * format")
    assert summed.name == "1 * accuracy + 0.1 * format"
    assert summed([RECORD] * 2, ["4", "<answer>4</answer>"]) == pytest.approx([1.0, 1.05])
    assert [term.weight for term in terms_of(summed)] == [1.0, 0.1]
    assert terms_of(text_reward("accuracy"))[0].weight == 1.0
    halved = image_reward("0.5 * digits")
    assert halved.name == "0.5 * digits"


def test_records_must_have_the_keys_that_terms_need() -> None:
    class Needy(Given):
        needs = ("prompt", "colour")

    summed = WeightedReward([Term(1.0, Given("free", [])), Term(0.5, Needy("needy", []))])
    assert summed.needs == ("prompt", "colour")
    given = [Annotation.model_validate({**RECORD.model_dump(), "colour": one}) for one in ("red", "", None)]
    check_records(summed, given[:2])
    with pytest.raises(
        ValueError,
        match=r"^reward 'needy' needs 'colour', which 2 of 4 records lack, the first of them a\.png",
    ):
        check_records(summed, [*given, RECORD])


def test_unknown_and_repeated_terms_are_reported() -> None:
    with pytest.raises(ValueError, match="no understanding reward is called 'fromat'"):
        text_reward("accuracy + 0.1 * fromat")
    with pytest.raises(ValueError, match="'accuracy' occurs twice"):
        text_reward("accuracy + 0.1 * accuracy")


def test_a_failing_term_is_reported() -> None:
    summed = WeightedReward([Term(1.0, Given("good", [1.0])), Term(2.0, Given("bad", [float("nan")]))])
    with pytest.raises(RewardError, match=r"reward 'bad' gave nan for a\.png"):
        summed([RECORD], ["x"])
    short = WeightedReward([Term(1.0, Given("good", [1.0])), Term(2.0, Given("short", []))])
    with pytest.raises(RewardError, match="reward 'short' gave 0 scores for 1 samples"):
        short([RECORD], ["x"])
