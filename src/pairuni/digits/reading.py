"""Whether a reply shows that the image was read, whatever letter it adds.

The accuracy reward counts "seven. A" as wrong if seven is option B, and "five. B" as right. Both letters say nothing
about how well the model sees. The reading score therefore looks at the words alone: the difference between the two
scores is a matter of format.
"""

from __future__ import annotations

import re

from pairuni.digits.questions import LETTERS, without_options
from pairuni.rewards.answers.accuracy import answers_match

_LETTER = re.compile(rf"\W*\b[{LETTERS}]\b\W*", re.I)


def reads_right(question: str, answer: str, reply: str, correct: bool) -> bool:
    """Whether the words of a reply, without its letters, give the right answer by the rules of the accuracy reward.

    If the reply contradicts itself, its words decide and its letter is ignored; words of several options are wrong.
    A reply to an open question, or one that is only a letter, has no other reading than its score ``correct``.
    """
    asked, wanted = without_options(question, answer)
    words = _LETTER.sub(" ", reply).strip()
    if asked == question or not words:
        return correct
    return answers_match(asked, wanted, words)
