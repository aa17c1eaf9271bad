import pytest

from pairuni.digits.evaluation import mark_replies
from pairuni.digits.questions import LETTER_SUFFIX, Question
from pairuni.digits.reading import reads_right
from pairuni.digits.world import Asked

WITH_OPTIONS = f"which digit is top left? A. three B. seven C. sixteen D. six {LETTER_SUFFIX}"


@pytest.mark.parametrize(
    ("reply", "correct", "reads"),
    [
        ("seven", True, True),
        ("the seven", True, True),
        ("7", True, True),
        ("seven. B", True, True),
        ("B seven", True, True),
        ("A seven", True, True),
        # words and letter contradict each other: the words decide
        ("seven. A", False, True),
        ("seven. C. B", False, True),
        ("three. B", True, False),
        ("nine. B", True, False),
        # no words: the letter decides
        ("B", True, True),
        ("b.", True, True),
        ("A", False, False),
        ("", False, False),
        # words of several options, of none, or a denial
        ("seven or three", False, False),
        ("seven three", False, False),
        ("seven, three. B", True, False),
        ("nine", False, False),
        ("not seven", False, False),
    ],
)
def test_words_decide_and_letters_do_not(reply: str, correct: bool, reads: bool) -> None:
    question = Question("read", WITH_OPTIONS, "B")
    (marked,) = mark_replies([Asked(None, question)], [reply])
    assert (marked.form, marked.correct, marked.reads) == ("options", correct, reads)


def test_a_part_of_another_option_is_not_read() -> None:
    assert not reads_right(WITH_OPTIONS, "C", "six. C", True)
    assert reads_right(WITH_OPTIONS, "D", "six. C", False)


def test_an_open_reply_reads_as_it_scores() -> None:
    asked = [Asked(None, Question("read", "which digit is top left?", "seven"))] * 3
    marked = mark_replies(asked, ["seven", "three", "three. A"])
    assert [(one.form, one.correct, one.reads) for one in marked] == [
        ("open", True, True),
        ("open", False, False),
        ("open", False, False),
    ]
