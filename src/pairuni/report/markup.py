"""How texts and places get into a page: one way to escape, styles and scripts by their hash."""

from __future__ import annotations

import base64
import hashlib
import html
import re

_PLACED = re.compile(r'data-at="([-a-z0-9.:;%]+)"')


def escape(value: object) -> str:
    """A value as text of an element or of a quoted attribute; what UTF-8 cannot hold is shown as an escape."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"))


def content_policy(style: str, script: str, images_from: str) -> str:
    """A policy under which this style and this script run, and nothing else: neither attributes nor requests."""
    return (
        f"default-src 'none'; img-src {images_from}; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )


def placed(**declarations: str) -> str:
    """An attribute that places an element: ``placed(left="3.00%")``. A policy by hash forbids ``style="..."``."""
    rule = ";".join(f"{name.replace('_', '-')}:{value}" for name, value in declarations.items())
    attribute = f'data-at="{rule}"'
    assert _PLACED.fullmatch(attribute), rule
    return attribute


def placing_rules(body: str) -> str:
    """The style sheet of all that is ``placed`` in ``body``."""
    return "".join(f'[data-at="{rule}"]{{{rule}}}\n' for rule in sorted(set(_PLACED.findall(body))))


def _digest(text: str) -> str:
    """The name by which a content security policy lets exactly this text run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
