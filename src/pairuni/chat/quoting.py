"""Text from users and servers, quoted in a message."""

from __future__ import annotations


def one_line(text: str) -> str:
    """The text with each run of white space replaced by one space."""
    return " ".join(text.split())


def quoted(text: str, longest: int) -> str:
    """The text on one line in quotes, shortened to ``longest`` characters."""
    text = one_line(text)
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")
