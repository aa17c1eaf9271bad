"""Image placeholders and special tokens in questions and prompts.

The policy receives the image separately, so a placeholder such as ``<image>`` at either end of a text is redundant
and removed. Inside a text, removing it would change the question, and a special token would change what the model
reads: such texts are refused.
"""

from __future__ import annotations

import re

_IMAGE = re.compile(
    r"""
    (?:(?:picture|image)[ -]?\d{1,3}:[ ]?)?                     # Picture 1: <|vision_start|>...
    (?:
        <img>[^<>]*</img>                                       # Qwen-VL: a path between tags
      | <(?:image|img|picture|video)(?:[ _:#-]?(?:\d{1,3}|placeholder|token|soft_token|pad|patch|context|here))?/?>
      | </(?:image|img)>
      | <(?:begin|start|end)_of_(?:image|img|video)>
      | <im_(?:start|end|patch)> | <patch_placeholder> | <fake_token_around_image>
      | <[|｜](?:(?:begin|start|end)_of_)?(?:vision|image|img|video)[^<>|｜\s]{0,40}[|｜]>  # <|image_pad|>, <|image_1|>
      | (?-i:\[IMG(?:_BREAK|_END|_?\d{1,3})?\])                # Pixtral
    )
    """,
    re.I | re.X,
)
_SPECIAL = re.compile(r"<[|｜][^<>|｜\s]{1,48}[|｜]>")
"""Special tokens of Janus, Qwen, Llama and Phi: <|User|>, <｜end▁of▁sentence｜>."""


def without_placeholders(text: str) -> str:
    """The text without image placeholders at its ends and the white space around them."""
    marks = [match.span() for match in _IMAGE.finditer(text)]
    start, end = 0, len(text)
    for begin, stop in marks:
        if text[start:begin].strip():
            break
        start = stop
    for begin, stop in reversed(marks):
        if begin < start or text[stop:end].strip():
            break
        end = begin
    return text[start:end].strip() if (start, end) != (0, len(text)) else text


def placeholder_fault(text: str) -> str | None:
    """Why ``text`` cannot be a question or a prompt, as a predicate ("contains <image>, ..."); None if it can.

    Covers the placeholders of common trainers and the usual form of special tokens; for the tokens of a checkpoint see
    ``UnifiedPolicy.question_fault``.
    """
    if found := _IMAGE.search(text):
        return f"contains {found[0]}, which stands for an image in other formats; remove it"
    if found := _SPECIAL.search(text):
        return f"contains {found[0]}, which resembles a special token of a model; remove it"
    return None
