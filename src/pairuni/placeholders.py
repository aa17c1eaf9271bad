"""Marks that stand for an image in other trainers' texts, and special tokens of models, in questions and prompts.

An image reaches the policy beside its question, so that a mark at the ends of a text says nothing and is removed.
Inside a text it cannot be removed without changing what is asked, and as a special token it would change what the
model reads: such a text is refused.
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
"""What special tokens of Janus, Qwen, Llama and Phi look like: <|User|>, <｜end▁of▁sentence｜>."""


def without_placeholders(text: str) -> str:
    """The text without image marks at its ends and the white space around them."""
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
    """Why ``text`` cannot be a question or a drawing prompt, as the end of a sentence that begins with its name.

    Knows the marks of common trainers and the form of special tokens; a checkpoint may have others
    (``UnifiedPolicy.question_fault``).
    """
    if found := _IMAGE.search(text):
        return f"contains {found[0]}, which stands for a picture in other formats; remove it"
    if found := _SPECIAL.search(text):
        return f"contains {found[0]}, which looks like a special token of a model; remove it"
    return None
