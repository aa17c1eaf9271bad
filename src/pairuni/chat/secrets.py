"""Texts of others without a key: as it is, and as URLs, JSON, HTML, base64 and hexadecimal digits write it."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Characters of a key; a shorter one is not secret, and may be a word of an answer."""

_BASE64 = "[A-Za-z0-9+/_=-]?"
_BREAK = r"(?:\s|\\{1,4}[rnt]){0,4}"
"""What may stand inside a secret that was wrapped, or that holds a line end which was written another way."""

_SECRET_NAME = re.compile(
    r"key|token|secret|sig|passw|pwd|auth|credential|code|bearer|jwt|session|cookie|license|^(sas|se|sp|sv|sr|st)$",
    re.I,
)
_SECRET_VALUE = re.compile(
    r"^(?:sk|pk|rk|ghp|gho|hf|xox\w|AIza|AKIA|eyJ|Bearer)[-_ A-Z0-9]|(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12,}"
    r"|[A-Za-z]{24,}|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-"
)


def redact(text: str, secret: str, *, shortest: int = SHORTEST_SECRET) -> str:
    """``text`` with ``***`` for the secret in any of its forms; as it is when the secret has less than ``shortest``.

    A secret of several lines is hidden line by line as well. Clear a text before shortening it: half a secret is
    not found.
    """
    for one in dict.fromkeys([secret, *map(str.strip, secret.splitlines())]):
        if len(one) >= max(shortest, 1):
            text = _forms(one).sub(HIDDEN, text)
    return text


def redact_url(url: str, secret: str = "") -> str:
    """A URL as it may be shown: without user and password, and without values of its query that may be secret."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return redact(url, secret)
    shown = "&".join(
        f"{quote(name)}={HIDDEN if may_be_secret(name, value) else quote(value)}" for name, value in query
    )
    user = f"{HIDDEN}@" if "@" in parts.netloc else ""
    place = user + parts.netloc.rpartition("@")[2]
    fragment = HIDDEN if parts.fragment else ""
    return redact(urlunsplit((parts.scheme, place, parts.path, shown, fragment)), secret)


def may_be_secret(name: str, value: str) -> bool:
    """Whether a parameter of a query may hold a key, by its name or by the looks of its value."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


@lru_cache(maxsize=16)
def _forms(secret: str) -> re.Pattern[str]:
    data = secret.encode()
    forms = [_BREAK.join(map(_character, secret)), f"(?i:{data.hex()})"]
    forms += [_in_base64(data, before) for before in range(3)]
    return re.compile("|".join(forms))


def _character(one: str) -> str:
    """A character itself or as an escape, so that any mixture of both is found."""
    hexadecimal = "".join(f"%{byte:02x}" for byte in one.encode())
    code = f"{ord(one):x}"
    escapes = (
        hexadecimal,
        rf"\\{{1,8}}(?:u0{{0,4}}|x){code}",
        f"&#x0{{0,6}}{code};",
        f"&#0{{0,6}}{ord(one)};",
    )
    named = {'"': ["&quot;"], "&": ["&amp;"], "<": ["&lt;"], ">": ["&gt;"]}.get(one, [])
    plain = r"\s" if one.isspace() else re.escape(one)
    return rf"(?:\\{{0,8}}{plain}|(?i:{'|'.join([*escapes, *named])}))"


def _in_base64(data: bytes, before: int) -> str:
    """The digits that ``data`` alone decides when ``before`` bytes precede it, and those that it shares."""
    encoded = b64encode(bytes(before) + data).decode()
    core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
    digits = (
        {"+": r"(?:[+-]|(?i:%2b))", "/": r"(?:[/_]|(?i:%2f))"}.get(digit, re.escape(digit)) for digit in core
    )
    return f"{_BASE64}{_BREAK.join(digits)}{_BASE64}"
