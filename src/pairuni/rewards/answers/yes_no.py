"""Whether a reply says yes or no: "No idea", "yes and no" and "Yes, it is not" say neither."""

from __future__ import annotations

import re

_YES_OR_NO = re.compile(r"\b(?:(?P<yes>yes|yeah|yep|yup)|(?P<no>no|nope|nah))\b(?!['-]\w|\.\s?\d)", re.I)
_DETERMINER = re.compile(
    r"[ \t]{1,5}(?!(?:it|its|there|they|he|she|i|we|you|this|that|these|those|the|a|an|and|or|but|because|since|as|"
    r"is|are|was|were|not|yes|no)\b)[^\W\d_]",
    re.I,
)
"""What follows "no" where it is no answer but part of "no dog", "no idea"."""
UNKNOWING = (
    "idea|clue|way|doubt|answer|opinion|information|info|comment|guess|one|knowledge|access|certainty|evidence|data|"
    "image|picture|photo|problem|matter|question|need|point|more|longer|thanks|worries"
)
"""What "no" is part of where it does not say that something is not there, as alternatives of a regular expression."""
_NOTHING_THERE = re.compile(
    r"\W*(?:(?:there|it|he|she|they|i|we)\s+(?:(?:can|could)\s+)?(?:is|are|was|were|has|have|see|sees|shows?)\s+)?"
    rf"no\s+(?!(?:{UNKNOWING})\b)[^\W\d_]+(?:\s+[\w'-]+){{0,8}}\W*",
    re.I,
)
_PRONOUN = r"(?:it|there|they|he|she|i|we|you|this|that|these|those)"
_VERB = r"(?:is|are|was|were|do|does|did|has|have|can|could|will|would|am)"
_TWISTED = re.compile(
    rf"\W*yes\W+(?:{_PRONOUN}\s+{_VERB}(?:n't|\s+not)|not)\b|\W*no\W+{_PRONOUN}\s+{_VERB}\W*\Z", re.I
)
_DOES_NOT_KNOW = re.compile(
    r"\bno\s+(?:idea|clue|way|opinion|answer|information|comment|guess)\b|\b(?:not sure|unsure|uncertain|unclear)\b|"
    r"\b(?:don't|do not|can't|cannot|can not)\s+(?:know|say|tell|determine|answer|"
    r"see(?=\s*(?:[^\w\s]|$)|\s+(?:it|well|clearly|(?:the|an?|any)\s+(?:image|picture|photo))\b))(?!\w)",
    re.I,
)
_NO = "no"
_CHINESE = re.compile(
    r"(?<!\w)(?:(?P<yes>是的?|对的?|有的?|正确)|(?P<no>不是的?|不|否|没有|没|不对|错误?))(?!\w)"
)


def says(wanted: str, text: str, undenied: str) -> bool:
    """Whether a text says ``wanted``, yes or no, and not the other one as well; undenied: without its denials.

    A no beside words of not knowing is none.
    """
    text = text.replace("’", "'")
    if _TWISTED.match(text) or (wanted == _NO and _DOES_NOT_KNOW.search(text)):
        return False
    said = {
        "yes" if found["yes"] else _NO
        for found in _YES_OR_NO.finditer(undenied)
        if found["yes"] or not _DETERMINER.match(undenied, found.end())
    } | {"yes" if found["yes"] else _NO for found in _CHINESE.finditer(text)}
    if said:
        return said == {wanted}
    return wanted == _NO and len(text) < 500 and bool(_NOTHING_THERE.fullmatch(text))
