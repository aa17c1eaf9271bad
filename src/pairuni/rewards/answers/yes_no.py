"""Whether a reply says yes, no or none: "No idea", "yes and no" and "Yes, it is not" say neither yes nor no."""

from __future__ import annotations

import re

from pairuni.rewards.answers.tokens import normalise

_YES_OR_NO = re.compile(
    r"\b(?:(?P<yes>yes|yeah|yep|yup)|(?P<no>no|nope|nah))\b"
    r"(?!['-]\w|\.\s?\d)",  # but not "no-one", "No. 5"
    re.I,
)
_CHINESE_YES_OR_NO = re.compile(
    r"(?<!\w)(?:(?P<yes>是的?|对的?|有的?|正确)|(?P<no>不是的?|不|否|没有|没|不对|错误?))(?!\w)"
)
_NOUN_AFTER_NO = re.compile(
    r"[ \t]{1,5}"
    r"(?!(?:it|its|there|they|he|she|i|we|you|this|that|these|those|the|a|an|and|or|but|because|since|as|"
    r"is|are|was|were|not|yes|no)\b)"
    r"[^\W\d_]",
    re.I,
)
"""What follows a "no" that is not an answer: "no dog", "no idea"."""
_UNKNOWN = (
    "idea|clue|way|doubt|answer|opinion|information|info|comment|guess|one|knowledge|access|certainty|evidence|data|"
    "image|picture|photo|problem|matter|question|need|point|more|longer|thanks|worries"
)
"""Nouns after "no" that do not say that something is absent, as alternatives of a regular expression."""
_NOTHING_THERE = re.compile(
    r"\W*(?:(?:there|it|he|she|they|i|we)\s+(?:(?:can|could)\s+)?"  # there, I can
    r"(?:is|are|was|were|has|have|see|sees|shows?)\s+)?"  # is, see
    rf"no\s+(?!(?:{_UNKNOWN})\b)[^\W\d_]+"  # no dog
    r"(?:\s+[\w'-]+){0,8}\W*",  # in the image
    re.I,
)
_NONE = re.compile(
    r"(?:there (?:is|are) )?"
    r"(?:none|nothing|nobody|no one"
    rf"|(?:no|not any) (?!(?:{_UNKNOWN})\b)\w+(?: \w+){{0,4}})"  # no dogs
)
_PRONOUN = r"(?:it|there|they|he|she|i|we|you|this|that|these|those)"
_VERB = r"(?:is|are|was|were|do|does|did|has|have|can|could|will|would|am)"
_CONTRADICTION = re.compile(
    rf"\W*yes\W+(?:{_PRONOUN}\s+{_VERB}(?:n't|\s+not)|not)\b"  # yes, it is not
    rf"|\W*no\W+{_PRONOUN}\s+{_VERB}\W*\Z",  # no, it is
    re.I,
)
_DOES_NOT_KNOW = re.compile(
    r"\bno\s+(?:idea|clue|way|opinion|answer|information|comment|guess)\b"
    r"|\b(?:not sure|unsure|uncertain|unclear)\b"
    r"|\b(?:don't|do not|can't|cannot|can not)\s+"
    r"(?:know|say|tell|determine|answer"
    r"|see(?=\s*(?:[^\w\s]|$)|\s+(?:it|well|clearly|(?:the|an?|any)\s+(?:image|picture|photo))\b))(?!\w)",
    re.I,
)
_MAX_LENGTH = 500


def says(wanted: str, text: str, undenied: str) -> bool:
    """Whether a text says ``wanted``, "yes" or "no", and not the other one as well.

    undenied: the text without its denials. A "no" next to words of not knowing does not count.
    """
    text = text.replace("’", "'")
    if _CONTRADICTION.match(text) or (wanted == "no" and _DOES_NOT_KNOW.search(text)):
        return False
    said = {
        "yes" if found["yes"] else "no"
        for found in _YES_OR_NO.finditer(undenied)
        if found["yes"] or not _NOUN_AFTER_NO.match(undenied, found.end())
    } | {"yes" if found["yes"] else "no" for found in _CHINESE_YES_OR_NO.finditer(text)}
    if said:
        return said == {wanted}
    return wanted == "no" and len(text) < _MAX_LENGTH and bool(_NOTHING_THERE.fullmatch(text))


def says_none(text: str) -> bool:
    """Whether a text says that there is nothing of something: "none", "There are no dogs"."""
    return bool(_NONE.fullmatch(normalise(text)))
