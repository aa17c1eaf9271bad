"""WISE's judge: its prompts, and the parsing of its replies.

The benchmark states no licence, so its judge prompts are not in this package. They are extracted from the scripts of
the official repository, WISE_legacy/gpt_eval.py and vllm_eval.py, without running them. Otherwise this package's own
prompt is used, and the protocol of the result says so.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairuni.chat.reasoning import without_reasoning
from pairuni.evaluation.protocols.wise import Protocol
from pairuni.io.text import read_text

OFFICIAL: Mapping[str, Protocol] = {"8b3c821e6d008b12": "legacy", "93675fc2752b4c8b": "verified"}
"""Digest of an official judge prompt -> its protocol. The legacy one has been the same in all versions."""

MAX_TOKENS = 2000
"""Maximum reply length, as in the legacy protocol; a verified judge without reasoning replies in one line."""

_FIELD = re.compile(r"\{(Prompt|Explanation)\}")
_SCORE = re.compile(
    r"score[*_\"'`]*\s*[:：=]?[\s*_\"'`]*([01])(?:\.0+)?(?:\s*/\s*1)?(?!\d|[.,]\d|\s*/|\w)", re.IGNORECASE
)
_BARE_SCORE = re.compile(r"[\s*_]*([01])(?:\.0+)?(?:\s*/\s*1)?[\s*_.]*")
_FUNCTION = "build_evaluation_messages"

_OWN_SYSTEM = "You judge generated pictures strictly, by what can be seen in them."
_OWN_TASK = """\
The attached picture was generated from this prompt, which takes knowledge of the world to draw:

{Prompt}

What a right picture shows:

{Explanation}

"""
_OWN: Mapping[Protocol, str] = {
    "legacy": _OWN_TASK
    + """\
Give three marks, each 0, 1 or 2; when in doubt the lower one.
Consistency: 0 when the main thing is missing or wrong, 1 when some of it is right, 2 when all of it is.
Realism: 0 when it could not exist or is plainly broken, 1 with visible faults, 2 when it could be a photograph.
Aesthetic Quality: 0 when it is unpleasant to look at, 1 when it is plain, 2 when it is a work of art.

Reply with these three lines and nothing else:
Consistency: <mark>
Realism: <mark>
Aesthetic Quality: <mark>""",
    "verified": _OWN_TASK
    + """\
Give 1 when the picture shows this and is clear enough to tell, else 0; when in doubt 0. Beauty does not count.

Reply with this line and nothing else:
Score: <0 or 1>""",
}


@dataclass(frozen=True)
class JudgePrompt:
    """System and user text with the placeholders {Prompt} and {Explanation}."""

    system: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.system}\n{self.text}".encode()).hexdigest()[:16]

    def filled(self, row: Mapping[str, Any]) -> str:
        """The user text for a row of the benchmark."""
        return _FIELD.sub(lambda field: str(row[field[1]]), self.text)

    def protocol(self, wanted: Protocol) -> str:
        """The protocol name of a score by this prompt. Raises ValueError for the other protocol's official prompt."""
        whose = OFFICIAL.get(self.digest)
        if whose is not None and whose != wanted:
            raise ValueError(f"this judge prompt is that of WISE's {whose} protocol, not of the {wanted} one")
        if whose == wanted:
            return wanted
        whose_else = "pairuni judge prompt" if self == own_prompt(wanted) else "judge prompt of one's own"
        return f"{wanted}, {whose_else}"


def own_prompt(protocol: Protocol) -> JudgePrompt:
    """This package's own judge prompt."""
    return JudgePrompt(_OWN_SYSTEM, _OWN[protocol])


def read_prompt(path: Path) -> JudgePrompt:
    """A judge prompt from an official script (.py), which is not run, or a text with {Prompt} and {Explanation}.

    Raises ValueError naming the file if it has none.
    """
    text = read_text(path)
    prompt = _of_script(text, path) if path.suffix == ".py" else JudgePrompt("", text.strip())
    missing = [f"{{{name}}}" for name in ("Prompt", "Explanation") if f"{{{name}}}" not in prompt.text]
    if missing:
        raise ValueError(f"{path}: the judge prompt does not contain {' and '.join(missing)}")
    return prompt


def verdict_in(reply: str) -> int | None:
    """The verdict in a verified judge's reply: a named score, or a single line of 0 or 1; else None.

    Reasoning before the answer is ignored.
    """
    said = without_reasoning(reply)
    if named := _SCORE.search(said):
        return int(named[1])
    bare = [found[1] for line in said.split("\n") if (found := _BARE_SCORE.fullmatch(line))]
    return int(bare[0]) if len(bare) == 1 else None


def _of_script(source: str, path: Path) -> JudgePrompt:
    """The prompt in the function that builds the judge's messages, with its fields as {Name}."""
    try:
        functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        (body,) = (node.body for node in functions if node.name == _FUNCTION)
        (returned,) = (node.value for node in body if isinstance(node, ast.Return))
        messages = _plain(returned)
        texts = {
            message["role"]: next(part["text"] for part in message["content"] if part["type"] == "text")
            for message in messages
        }
        return JudgePrompt(texts["system"], texts["user"])
    except (SyntaxError, ValueError, TypeError, KeyError, StopIteration):
        raise ValueError(f"{path}: contains no judge prompt of WISE in a function {_FUNCTION}") from None


def _plain(node: ast.expr | None) -> Any:
    """The value of a literal; fields of an f-string, such as row["Prompt"], become {Prompt}."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_plain(one) for one in node.elts]
    if isinstance(node, ast.Dict):
        return {_plain(key): _plain(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.JoinedStr):
        return "".join(_plain(one) for one in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{_plain(node.value)}}}"
    if isinstance(node, ast.Subscript):
        return _plain(node.slice)
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError(ast.dump(node) if node is not None else "nothing")
