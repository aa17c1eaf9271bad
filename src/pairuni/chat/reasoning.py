"""Removes the reasoning of a reply, for the markers of many models."""

from __future__ import annotations

import re

_TAGS = {
    "think": r"(?:\w{1,8}[:_])?think(?:ing)?|thoughts?",
    "reason": "reason(?:ing)?",
    "analysis": "analysis",
    "reflection": "reflection",
    "scratchpad": "scratchpad",
}
"""Family -> names of its tags: <think> (DeepSeek, Qwen, GLM), <seed:think>, <longcat_think>, <thought> (EXAONE)."""

_TOKENS = {
    "magistral": ("[THINK]", "[/THINK]"),
    "kimi": ("◁think▷", "◁/think▷"),
    "gemma": ("<|channel>", "<channel|>"),
    "cohere": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "openthoughts": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "pangu": ("[unused16]", "[unused17]"),
}
"""Family -> opening and closing marker."""

_OPENS = {family: rf"<(?:{names})(?:[\s:][^<>]{{0,64}})?>" for family, names in _TAGS.items()} | {
    family: re.escape(opening) for family, (opening, _) in _TOKENS.items()
}
_CLOSES = {family: rf"</(?:{names})\s?>" for family, names in _TAGS.items()} | {
    family: re.escape(closing) for family, (_, closing) in _TOKENS.items()
}
_MARK = re.compile(
    "|".join(
        [f"(?P<open_{family}>{pattern})" for family, pattern in _OPENS.items()]
        + [f"(?P<close_{family}>{pattern})" for family, pattern in _CLOSES.items()]
    ),
    re.I,
)

_GRANITE = re.compile(r"\s*here(?: is|['’]s) my thought process:", re.I)
_GRANITE_RESPONSE = re.compile(r"here(?: is|['’]s) my response:", re.I)

_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_CHANNEL_BEGUN = re.compile(
    r"\s*(?:analysis|commentary|final)\b[^\n<]{0,64}(?:<\|constrain\|>\w+)?<\|message\|>"
)
_MESSAGE_END = re.compile(r"<\|(?:end|return|start|call)\|>")
_BARE = re.compile(r"\s*analysis(?=.*assistantfinal)", re.S)
"""Channels decoded without their special tokens."""

_ROLE = re.compile(
    r"\s*(?:<\|im_start\|>\s?assistant\s|<\|start_header_id\|>\s?assistant\s?<\|end_header_id\|>|<\|assistant\|>)"
)
_WRAPPER = re.compile(r"</?response>|<\|(?:start|end)_response\|>|<\|(?:begin|end)_of_solution\|>", re.I)
_ENDS = (
    "<|end|>",
    "<|return|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<turn|>",
    "[unused10]",
    "</s>",
    "<eos>",
)
"""End tokens that some servers leave in a reply."""


def without_reasoning(text: str) -> str:
    """The part of a reply after its reasoning, in time linear in its length; empty when the reasoning never ended.

    Reasoning is the text between the markers of one family, such as <think> and </think> in any case, and all text
    before the last closing marker without an opening one, since many chat templates open the reasoning themselves.
    Of a reply in channels (gpt-oss) only the last final channel is kept. Text without markers is returned as it is.
    """
    if role := _ROLE.match(text):
        text = text[role.end() :]
    channel, mark = _first_channel(text), _MARK.search(text)
    if channel is not None and (mark is None or channel < mark.start()):
        text = _final_channel(text)
    text = _outside_marks(text)
    if _CHANNEL in text:
        text = _final_channel(text)
    if _GRANITE.match(text):
        _, *responses = _GRANITE_RESPONSE.split(text)
        text = responses[-1] if responses else ""
    return _without_end(_WRAPPER.sub("\n", text))


def _outside_marks(text: str) -> str:
    """Text outside all pairs of markers. Within a pair, a marker of another family counts as text."""
    kept: list[str] = []
    place = 0
    inside = ""
    for mark in _MARK.finditer(text):
        kind, _, family = str(mark.lastgroup).partition("_")
        if kind == "open" and not inside:
            kept.append(text[place : mark.start()])
            inside = family
        elif kind == "close" and inside in ("", family):
            kept = kept if inside else []
            inside = ""
            place = mark.end()
    return "" if inside else "".join([*kept, text[place:]])


def _first_channel(text: str) -> int | None:
    """Start of the first channel, 0 if the chat template opened it; None without channels."""
    if _CHANNEL_BEGUN.match(text) or _BARE.match(text):
        return 0
    found = text.find(_CHANNEL)
    return found if found >= 0 else None


def _final_channel(text: str) -> str:
    """The last message to the user, or an empty text."""
    if _CHANNEL not in text and _BARE.match(text):
        return text.rpartition("assistantfinal")[2]
    final = ""
    for part in (_CHANNEL + text if _CHANNEL_BEGUN.match(text) else text).split(_CHANNEL):
        header, begun, message = part.partition(_MESSAGE)
        if begun and header.split()[:1] == ["final"]:
            final = _MESSAGE_END.split(message, maxsplit=1)[0]
    return final


def _without_end(text: str) -> str:
    end = len(text)
    while True:
        bare = len(text[:end].rstrip()) if text[end - 1 : end].isspace() else end
        found = next((token for token in _ENDS if text.endswith(token, 0, bare)), None)
        if found is None:
            return text[:end]
        end = bare - len(found)
