import pytest

from pairuni.records import Annotation
from pairuni.rewards.answers.format import FormatReward

RECORD = Annotation(image_path="a.png", prompt="p", question="q", answer="a")


@pytest.mark.parametrize(
    ("sample", "score"),
    [
        ("<think>\nfour\n</think>\n<answer>4</answer>", 1.0),
        ("<think>four</think> 4", 0.5),
        ("<answer>4</answer>", 0.5),
        ("<answer>4</answer><think>four</think>", 0.5),
        ("<think>a</think><think>b</think><answer>4</answer>", 0.5),
        ("<answer>4", 0.25),
        ("</answer></think>", 0.25),
        ("four", 0.0),
        ("", 0.0),
    ],
)
def test_a_quarter_for_each_tag_once_and_in_order(sample: str, score: float) -> None:
    assert FormatReward()([RECORD], [sample]) == [score]
