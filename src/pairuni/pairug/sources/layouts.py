"""Rows in known layouts, converted to plain columns: Orsta-47k and verl, chats, instructions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.chats import QUESTION_ROLES, REPLY_ROLES, Turn, is_chat, turns_of, words_of
from pairuni.pairug.sources.readers.rows import Row
from pairuni.pairug.sources.values import is_absent

LEFT_OUT = "detection, grounding"
"""Abilities of Orsta-47k that the paper leaves out (arXiv:2510.25682, section 2.1); their answers are boxes."""

IMAGE_COLUMNS = ("image_paths", "image_path", "image", "images", "file_name")
"""Columns of images, in order of preference."""

_NUMBERED = re.compile(r"image_\d{1,2}")

_BOXES = ("<bbox>", "<ref-object>")
"""Marks that ms-swift replaces with names and boxes from another column."""

_CHATS = ("conversations", "messages", "conversation")
_TRUTHS = ("solution", "ground_truth")
"""Ground truth columns in data for GRPO; they take precedence over the last reply of a chat."""
_ANSWERS = ("completion", "response", "output", "chosen", "answer")
"""Columns of the reply to a chat, in order of preference."""
_INSTRUCTIONS = (
    ("instruction", "output"),
    ("query", "response"),
    ("problem", "solution"),
    ("prompt", "completion"),
    ("prompt", "solution"),
)
"""Columns of question and reply as text: LLaMA-Factory and Alpaca, ms-swift, open-r1, TRL."""


class LeftOut(ValueError):
    """Why a valid row is not used."""


def plain_columns(row: Row, leave_out: str, *, asks: bool, named: Sequence[str] = ()) -> Row | Problem:
    """The row with plain columns if its layout is known, else the row itself. Raises LeftOut.

    asks: question and answer are wanted, else the reply is the prompt. named: fields whose columns the user names;
    these are not taken from the layout.
    """
    values = row.values
    if isinstance(values.get("reward_model"), dict):
        return _orsta(row, {word.strip().casefold() for word in leave_out.split(",") if word.strip()}, named)
    if ("question" in named and "answer" in named) if asks else "prompt" in named:
        return row
    for column in _CHATS:
        if (turns := turns_of(values.get(column))) is not None:
            return _conversation(row, column, turns, asks, named)
    replied = "answer" in named or _first(values, (*_TRUTHS, *_ANSWERS)) is not None
    if is_chat(values.get("prompt")) and (replied or not asks):
        return _conversation(row, "prompt", turns_of(values["prompt"]) or [], asks, named)
    for question, reply in _INSTRUCTIONS:
        present = isinstance(values.get(question), str) and reply in values
        plain = "question" in values or ("answer" in values and question in ("query", "problem"))
        if present and not plain and (asks or question != "prompt"):
            return _instruction(row, question, asks, named)
    return row


def images_of(value: Any, *, asks: bool) -> list[Any]:
    """The images of a column, which may hold a list. Raises LeftOut for none, and for several unless ``asks``."""
    if not isinstance(value, list):
        return [value]
    if not value:
        raise LeftOut("no image")
    if len(value) > 1 and not asks:
        raise LeftOut("more than one image")
    return value


def numbered_images(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns image_1, image_2, ... of MMMU that have a value, in their order."""
    found = {
        name: value for name, value in values.items() if _NUMBERED.fullmatch(name) and not is_absent(value)
    }
    return dict(sorted(found.items(), key=lambda one: int(one[0].rpartition("_")[2])))


def _orsta(row: Row, leave_out: set[str], named: Sequence[str]) -> Row | Problem:
    """Orsta-Data-47k and verl: images, prompt (a chat), ability, reward_model, data_source, extra_info."""
    reward = row.values["reward_model"]
    ability = str(row.values.get("ability") or "")
    kinds = {ability.casefold(), str(reward.get("verifier") or "").casefold()}
    for kind in sorted(leave_out & kinds):
        raise LeftOut(kind)
    turns = turns_of(row.values.get("prompt"))
    if turns is None and "question" not in named:
        return row.problem("prompt", "must be a list of messages, as in Orsta-47k")
    questions = [turn for turn in turns or [] if turn.who in QUESTION_ROLES]
    truth = reward.get("ground_truth")
    answer = reward.get("answer") if is_absent(truth) or truth == "" else truth
    rest = {name: value for name, value in row.values.items() if name not in ("prompt", "reward_model")}
    values = {**rest, **_images(row.values, turns or []), "answer": answer}
    values["question"] = "\n".join(turn.text for turn in questions)
    return replace(row, values=values, tag=ability or row.tag, notes=_notes(turns or []))


def _conversation(
    row: Row, column: str, turns: list[Turn], asks: bool, named: Sequence[str]
) -> Row | Problem:
    """The first question and its reply, or the question that ends a chat and the answer of another column."""
    spoken = [turn for turn in turns if turn.who in (*QUESTION_ROLES, *REPLY_ROLES)]
    truth = _first(row.values, _TRUTHS) if asks else None
    if truth is not None:
        while spoken and spoken[-1].who in REPLY_ROLES:
            spoken.pop()
        if any(turn.who in REPLY_ROLES for turn in spoken):
            raise LeftOut("a question after other turns")
    if any(mark in turn.text for turn in spoken for mark in _BOXES):
        raise LeftOut("marks of objects and boxes")
    first = next((number for number, turn in enumerate(spoken) if turn.who in REPLY_ROLES), len(spoken))
    questions = [turn.text for turn in spoken[:first] if turn.text]
    used = {column}
    reply = spoken[first].text if first < len(spoken) else None
    other = truth or _first(row.values, _ANSWERS)
    if reply is None and other is not None:
        reply = words_of(row.values[other], REPLY_ROLES)
        used.add(other)
    if reply is None and column == "prompt" and not asks:
        reply = "\n".join(questions) or None  # the image to generate
    unsaid = (asks and not questions and "question" not in named) or (
        reply is None and ("answer" if asks else "prompt") not in named
    )
    if unsaid:
        columns = f", and there is no column {', '.join((*_TRUTHS, *_ANSWERS))}" if asks and questions else ""
        return row.problem(column, f"has no question that is followed by a reply{columns}")
    new = {"question": "\n".join(questions), "answer": reply} if asks else {"prompt": reply}
    images = _images(row.values, turns)
    rest = {name: value for name, value in row.values.items() if name not in used}
    if "image_path" not in named and not _has_image({**rest, **images}):
        raise LeftOut("no image")
    return replace(row, values={**rest, **images, **new}, notes=_notes(turns, spoken[first + 1 :]))


def _instruction(row: Row, column: str, asks: bool, named: Sequence[str]) -> Row | Problem:
    """An instruction, its input and its output as a chat of two turns."""
    values = row.values
    if values.get("history"):
        raise LeftOut("a question after other turns")
    texts = [values[column], values.get("input") if column == "instruction" else None]
    text = "\n".join(part.strip() for part in texts if isinstance(part, str) and part.strip())
    turns = turns_of([{"role": "user", "content": text}]) or []
    if isinstance(values.get("system"), str) and values["system"].strip():
        turns.append(Turn("system", values["system"]))
    gone = {column, "system", "history", *(("input",) if column == "instruction" else ())}
    rest = {name: value for name, value in values.items() if name not in gone}
    return _conversation(replace(row, values=rest), column, turns, asks, named)


def _first(values: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    return next((name for name in columns if not is_absent(values.get(name))), None)


def _images(values: Mapping[str, Any], turns: Sequence[Turn]) -> dict[str, Any]:
    """The images inside the messages of a chat, unless a column has images."""
    inside = [image for turn in turns for image in turn.images]
    return {"images": inside} if inside and not _has_image(values) else {}


def _has_image(values: Mapping[str, Any]) -> bool:
    return any(values.get(name) for name in IMAGE_COLUMNS)


def _notes(turns: Sequence[Turn], later: Sequence[Turn] = ()) -> tuple[str, ...]:
    """The content of a chat that is not kept."""
    roles = {turn.who for turn in turns} - {*QUESTION_ROLES, *REPLY_ROLES}
    notes = ["system messages"] if "system" in roles else []
    notes += ["messages of other roles"] if roles - {"system"} else []
    return (*notes, "later turns of chats") if later else tuple(notes)
