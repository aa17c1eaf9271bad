"""A complete HTML page: self-contained, without requests, under a content security policy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

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


def checked_page(path: Path) -> Path:
    """The path of a page to write. Raises ValueError if it is a folder."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a page, such as {path / 'page.html'}")
    return path


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of text, header first. ``**text**`` is bold."""
    return html_table(
        [escape(cell) for cell in rows[0]],
        [[escape(row[0]), *(_BOLD.sub(r"<b>\1</b>", escape(cell)) for cell in row[1:])] for row in rows[1:]],
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table of cells in HTML that scrolls sideways where it is too wide. The first cell of a row is its header."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    named = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="table"><table class="numbers">{named}'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )
