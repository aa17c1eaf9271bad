"""A complete HTML page: self-contained, without requests, under a content security policy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

from pairuni.report.markup import content_policy, escape, placing_rules

_BOLD = re.compile(r"[*][*](.+?)[*][*]")


def document(kind: str, title: str, body: Sequence[str], *, head: str = "") -> str:
    """The page of these sections. kind: such as "PairUni run", above the title; head: HTML below it."""
    assets = files("pairuni.report")
    style = "\n" + (assets / "style.css").read_text(encoding="utf-8") + placing_rules("".join(body))
    script = "\n" + "".join(
        (assets / name).read_text(encoding="utf-8") for name in ("interaction.js", "script.js")
    )
    policy = content_policy(style, script, "data:")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)} · {escape(kind)}</title>'
        f"<style>{style}</style></head>\n<body>"
        f"<header><p>{escape(kind)}</p><h1>{escape(title)}</h1>{head}</header>\n<main>\n"
        + "\n".join(body)
        + f"\n</main>\n<script>{script}</script></body></html>\n"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of text, header first, that scrolls sideways where it is too wide. ``**text**`` is bold."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(map(_cell, row[1:]))}</tr>' for row in rows[1:]
    )
    return f'<div class="wide"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    shown = _BOLD.sub(r"<b>\1</b>", escape(text))
    return f"<td>{shown}</td>"
