"""Texts of others without a key: as it is, and as URLs, JSON, HTML, base64 and hexadecimal digits write it."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Characters of a key; a shorter one is not secret, and may be a word of an answer."""

_BASE64 = "[A-Za-z0-9+/_=-]?"


def cleared(text: str, secret: str, *, shortest: int = SHORTEST_SECRET) -> str:
    """``text`` with ``***`` for the secret in any of its forms; as it is when the secret has less than ``shortest``."""
    return text if len(secret) < max(shortest, 1) else _forms(secret).sub(HIDDEN, text)


@lru_cache(maxsize=16)
def _forms(secret: str) -> re.Pattern[str]:
    data = secret.encode()
    forms = ["".join(map(_character, secret)), f"(?i:{data.hex()})"]
    forms += [_in_base64(data, before) for before in range(3)]
    return re.compile("|".join(forms))


def _character(one: str) -> str:
    """A character itself or as an escape, so that any mixture of both is found."""
    hexadecimal = "".join(f"%{byte:02x}" for byte in one.encode())
    code = f"{ord(one):x}"
    escapes = (hexadecimal, rf"\\+u0*{code}", rf"\\+x{code}", f"&#x0*{code};", f"&#0*{ord(one)};")
    named = {'"': ["&quot;"], "&": ["&amp;"], "<": ["&lt;"], ">": ["&gt;"]}.get(one, [])
    return rf"(?:\\*{re.escape(one)}|(?i:{'|'.join([*escapes, *named])}))"


def _in_base64(data: bytes, before: int) -> str:
    """The digits that ``data`` alone decides when ``before`` bytes precede it, and those that it shares."""
    encoded = b64encode(bytes(before) + data).decode()
    core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
    digits = (
        {"+": r"(?:[+-]|(?i:%2b))", "/": r"(?:[/_]|(?i:%2f))"}.get(digit, re.escape(digit)) for digit in core
    )
    return f"{_BASE64}{''.join(digits)}{_BASE64}"
