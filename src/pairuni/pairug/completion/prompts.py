"""The prompts of completion and the schemas of their replies (requirements: arXiv:2510.25682, section 2.1).

Each task is a prompt and a flat pydantic model. The prompt names the reply's fields too, for servers without
structured outputs; the order of the fields makes the model look first and judge last. Prompts and schemas are part of
the keys of stored answers.
"""

from __future__ import annotations

import hashlib

from pydantic import Field

from pairuni.chat.replies import Reply

SYSTEM = (
    "You prepare data that trains a model to understand and to draw pictures. You look closely, state only what "
    "you can see, and reply with one JSON object and nothing else."
)

WRITE_CAPTION = """\
Write a caption of this picture. It will be the prompt from which the picture is drawn again.

A question about the picture, and its right answer:
Question: {question}
Answer: {answer}

The caption must
1. state every visual fact that is needed to answer the question, so exactly that somebody who reads only the caption \
comes to this answer: numbers, colours, shapes, sizes, positions, relations, written words;
2. state them as part of a description of the picture: it does not mention the question, options, letters or an \
answer, and does not reason;
3. name nothing that the picture does not show;
4. be plain sentences in one paragraph, in the language of the question.

List the facts first, then write the caption, then check it: answer the question from your caption alone.

Reply as JSON:
{{"facts": ["a visual fact that the question needs", ...], "caption": "...", "answer_from_caption": "...", \
"states_every_fact": true or false, "names_only_what_is_shown": true or false}}"""

WRITE_QUESTION = """\
Write a multiple-choice question about this picture. The picture is described by this caption:

{prompt}

The question must
1. ask for a visual element that the caption states (a thing, a number, a colour, a material, a position, an action, \
a relation, written words), never for something that the caption leaves open;
2. be answerable from the picture, and have the same answer for somebody who reads only the caption;
3. have exactly one right option. The {wrong} wrong options are of the same kind and plausible, but clearly wrong for \
this picture: no other name for the right option, no part of it, no "none" or "all of these";
4. be written without its options; options are short and have no letters.

Name the element first, then write the question, then check it.

Reply as JSON:
{{"element": "what the caption states", "question": "...?", "right": "...", "wrong": [{wrong} options], \
"stated_by_caption": true or false, "visible_in_picture": true or false, "only_one_right": true or false}}"""

VERIFY_CAPTION = """\
Check a caption of this picture. Somebody will answer the question below from the caption alone.

Caption: {prompt}
Question: {question}
Right answer: {answer}

Look at the picture and judge strictly:
* answer_from_caption: the answer that follows from the caption alone, without the picture; "unknown" if none does;
* answer_agrees: whether that means the same as the right answer;
* contradicts_picture: whether the caption says anything that the picture shows otherwise;
* invents: whether the caption names anything that the picture does not show;
* reason: one sentence on what is wrong, so that it can be corrected; empty if nothing is.

Reply as JSON:
{{"answer_from_caption": "...", "answer_agrees": true or false, "contradicts_picture": true or false, \
"invents": true or false, "reason": "..."}}"""

VERIFY_QUESTION = """\
Check a multiple-choice question about this picture. The picture is described by this caption:

{prompt}

Question: {question}
{options}

Judge strictly:
* letter_from_caption: the letter that follows from the caption alone; "none" if none does, "several" if more than one;
* letter_from_picture: the letter that follows from the picture alone; "none" or "several" likewise;
* asks_what_caption_states: whether the question asks for a visual element that the caption states;
* contradicts: whether the question takes anything for granted that the caption or the picture contradicts;
* reason: one sentence on what is wrong, so that it can be corrected; empty if nothing is.

Reply as JSON:
{{"letter_from_caption": "A", "letter_from_picture": "A", "asks_what_caption_states": true or false, \
"contradicts": true or false, "reason": "..."}}"""

SEVERAL_PICTURES = """\
You see {count} pictures; the question is about all of them, in this order. Below, "the picture" means these pictures \
together. A caption describes them one after the other: the first picture, the second picture, and so on. It is not \
used to draw.

"""
"""Precedes the prompts of a caption of several pictures."""

REFUSED = """

Earlier replies were refused:
{reasons}
Write one that is free of these faults."""

UNREAD = """

An earlier verdict could not be read ({reason}; attempt {attempt} follows). Reply with the JSON object alone."""

PROMPTS_DIGEST = hashlib.blake2b(
    "\0".join(
        (SYSTEM, WRITE_CAPTION, WRITE_QUESTION, VERIFY_CAPTION, VERIFY_QUESTION, SEVERAL_PICTURES)
    ).encode(),
    digest_size=8,
).hexdigest()
"""Identifies the prompts in the statistics of a data set."""


class CaptionReply(Reply):
    """The reply to WRITE_CAPTION."""

    facts: list[str] = Field(min_length=1)
    caption: str
    answer_from_caption: str
    states_every_fact: bool
    names_only_what_is_shown: bool


class QuestionReply(Reply):
    """The reply to WRITE_QUESTION."""

    element: str
    question: str
    right: str
    wrong: list[str] = Field(min_length=1)
    stated_by_caption: bool
    visible_in_picture: bool
    only_one_right: bool


class CaptionVerdict(Reply):
    """The reply to VERIFY_CAPTION."""

    answer_from_caption: str
    answer_agrees: bool
    contradicts_picture: bool
    invents: bool
    reason: str = ""


class QuestionVerdict(Reply):
    """The reply to VERIFY_QUESTION."""

    letter_from_caption: str
    letter_from_picture: str
    asks_what_caption_states: bool
    contradicts: bool
    reason: str = ""


def refused(reasons: list[str]) -> str:
    """The end of a prompt after refusals of earlier replies; empty at the first try."""
    listed = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))
    return REFUSED.format(reasons=listed) if reasons else ""
