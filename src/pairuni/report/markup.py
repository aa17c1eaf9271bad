"""HTML helpers: escaping, placement by style rules, sections, and a content security policy with script hashes."""

from __future__ import annotations

import base64
import hashlib
import html
import re

_PLACED = re.compile(r'data-at="([-a-z0-9.:;%]+)"')


def escape(value: object) -> str:
    """A value as text of an element or of a quoted attribute; lone surrogates become escapes."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"))


def content_policy(style: str, script: str, images_from: str) -> str:
    """A content security policy for this style and this script only: no inline attributes, no requests."""
    return (
        f"default-src 'none'; img-src {images_from}; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def section(name: str, title: str, body: str, note: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{title}</h2>'
        f'<p class="note">{escape(note)}</p>{body}</section>'
    )


def placed(**declarations: str) -> str:
    """An attribute that places an element, ``placed(left="3.00%")``; the policy forbids ``style="..."``."""
    rule = ";".join(f"{name.replace('_', '-')}:{value}" for name, value in declarations.items())
    attribute = f'data-at="{rule}"'
    assert _PLACED.fullmatch(attribute), rule
    return attribute


def placing_rules(body: str) -> str:
    """The style rules for everything that is ``placed`` in ``body``."""
    return "".join(f'[data-at="{rule}"]{{{rule}}}\n' for rule in sorted(set(_PLACED.findall(body))))


def _digest(text: str) -> str:
    """The hash source expression of a text for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
