"""Docstrings of this code base as sections and links. Needs no Griffe.

They describe parameters in prose, ``rows: sequences that are decoded together. steps: passes over the weights.`` On the
site these sentences become a table, and names of the public API in double backticks become links.
"""

from __future__ import annotations

import re
from collections.abc import Collection


def with_section(text: str, names: Collection[str], title: str) -> str:
    """Move the descriptions of ``names`` out of the prose, into a section at the end.

    A description begins a sentence, or follows a semicolon, and ends with its paragraph or before "Raises" or
    "Returns". Indented paragraphs stay as they are.
    """
    if not names:
        return text
    name = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    begins = re.compile(rf"(?:^|(?<=[.;)] ))((?:{name})(?:, (?:{name}))*): ")
    prose, rows = [], []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("    "):
            prose.append(paragraph)
            continue
        before, *described = begins.split(" ".join(paragraph.split()))
        kept = [before.strip()]
        for heads, words in zip(described[::2], described[1::2], strict=True):
            description, *after = re.split(r"(?<=\.) (?=Raises |Returns )", words.strip(), maxsplit=1)
            rows += [f"    {head}: {description.rstrip(';')}" for head in heads.split(", ")]
            kept += after
        prose.append(" ".join(one for one in kept if one))
    section = ["\n".join([f"{title}:", *rows])] if rows else []
    return "\n\n".join([*(one for one in prose if one), *section])


def with_links(text: str, public: Collection[str]) -> str:
    """Make each ``name`` of the public API a link to its place in the reference."""
    return re.sub(
        r"``(\w+)``",
        lambda found: f"[`{found[1]}`][pairuni.{found[1]}]" if found[1] in public else found[0],
        text,
    )
