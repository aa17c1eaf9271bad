"""Rows of known data sets, in the columns that a record has: Orsta-47k and LLaVA's conversations."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.rows import Row

LEFT_OUT = "detection, grounding"
"""Abilities of Orsta-47k that the paper leaves out (arXiv:2510.25682, section 2.1): their answers are boxes."""

_BOXED = re.compile(r"\s*\$?\\boxed\{(.*)\}\$?\s*", re.S)
_PICTURE = re.compile(r"<image>\s?")
_ASKS = ("human", "user")
_REPLIES = ("gpt", "assistant")


class LeftOut(ValueError):
    """Why a row that is in order is not used."""


def reshaped(row: Row, leave_out: str, *, asks: bool) -> Row | Problem:
    """The row with plain columns where its shape is known, else the row itself. Raises LeftOut.

    asks: whether question and answer are wanted, of a conversation its first; else its first reply is the prompt.
    """
    if isinstance(row.values.get("reward_model"), dict):
        return _orsta(row, {word.strip().casefold() for word in leave_out.split(",") if word.strip()})
    for column in ("conversations", "messages"):
        if isinstance(turns := row.values.get(column), list):
            return _conversation(row, column, turns, asks)
    return row


def only_image(value: Any) -> Any:
    """The one picture of a column that may hold several. Raises LeftOut for none and for more."""
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise LeftOut("more than one picture" if value else "no picture")
    return value[0]


def _orsta(row: Row, leave_out: set[str]) -> Row | Problem:
    """The schema of Orsta-Data-47k: images, prompt (a chat), ability, reward_model, data_source, extra_info."""
    reward = row.values["reward_model"]
    ability = str(row.values.get("ability") or "")
    kinds = {ability.casefold(), str(reward.get("verifier") or "").casefold()}
    for kind in sorted(leave_out & kinds):
        raise LeftOut(kind)
    turns = row.values.get("prompt")
    if not isinstance(turns, list):
        return row.problem("prompt", "must be a list of messages, as in Orsta's files")
    question = "\n".join(text for who, text in map(_turn, turns) if who in _ASKS)
    answer = reward.get("ground_truth") or reward.get("answer")
    if isinstance(answer, str) and (boxed := _BOXED.fullmatch(answer)):
        answer = boxed[1]
    rest = {name: value for name, value in row.values.items() if name not in ("prompt", "reward_model")}
    values = {**rest, "question": question, "answer": answer}
    return replace(row, values=values, tag=ability or row.tag)


def _conversation(row: Row, column: str, turns: list[Any], asks: bool) -> Row | Problem:
    told = [_turn(turn) for turn in turns]
    first = next((number for number, (who, _) in enumerate(told) if who in _REPLIES), None)
    if not asks and first is not None:
        new = {"prompt": told[first][1]}
    elif first and told[first - 1][0] in _ASKS:
        new = {"question": told[first - 1][1], "answer": told[first][1]}
    else:
        return row.problem(column, "holds no question that is followed by a reply")
    rest = {name: value for name, value in row.values.items() if name != column}
    if not rest.get("image") and not rest.get("images"):
        raise LeftOut("no picture")
    return replace(row, values={**rest, **new})


def _turn(turn: Any) -> tuple[str, str]:
    """Who speaks and what, without marks of pictures; of a message in parts its texts."""
    if not isinstance(turn, dict):
        return "", ""
    text = turn.get("value", turn.get("content"))
    if isinstance(text, list):
        text = "\n".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
    who = turn.get("from", turn.get("role"))
    return str(who), _PICTURE.sub("", text if isinstance(text, str) else "").strip()
