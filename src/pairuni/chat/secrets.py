"""Redacts a key from texts: in plain, and as encoded in URLs, JSON, HTML, base64 and hexadecimal."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

HIDDEN = "***"
SHORTEST_SECRET = 8
"""Characters of a key; a shorter one is not treated as secret, since it may be a word of an answer."""

_BASE64 = "[A-Za-z0-9+/_=-]?"
_BREAK = r"(?:\s|\\{1,4}[rnt]){0,4}"
"""Separators within a secret that was wrapped, or whose line break was escaped."""

_SECRET_NAME = re.compile(
    r"key|token|secret|sig|passw|pwd|auth|credential|code|bearer|jwt|session|cookie|license|^(sas|se|sp|sv|sr|st)$",
    re.I,
)
_SECRET_VALUE = re.compile(
    r"^(?:sk|pk|rk|ghp|gho|hf|xox\w|AIza|AKIA|eyJ|Bearer)[-_ A-Z0-9]|(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12,}"
    r"|[A-Za-z]{24,}|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-"
)


def redact(text: str, secret: str, *, shortest: int = SHORTEST_SECRET) -> str:
    """``text`` with ``***`` in place of the secret in any form; unchanged if it is shorter than ``shortest``.

    Each line of a secret of several lines is redacted too. Redact a text before shortening it: half a secret is not
    found.
    """
    for one in dict.fromkeys([secret, *map(str.strip, secret.splitlines())]):
        if len(one) >= max(shortest, 1):
            text = _forms(one).sub(HIDDEN, text)
    return text


def redact_url(url: str, secret: str = "") -> str:
    """A URL for display: without user, password, fragment and query values that may be secret."""
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
    """Whether a query parameter may hold a key, by its name or the form of its value."""
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))


@lru_cache(maxsize=16)
def _forms(secret: str) -> re.Pattern[str]:
    data = secret.encode()
    forms = [_BREAK.join(map(_character, secret)), f"(?i:{data.hex()})"]
    forms += [_in_base64(data, before) for before in range(3)]
    return re.compile("|".join(forms))


def _character(one: str) -> str:
    """A pattern of a character, plain or escaped in any form."""
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
    """A pattern of ``data`` in base64 when ``before`` bytes precede it modulo 3; shared digits are optional."""
    encoded = b64encode(bytes(before) + data).decode()
    core = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
    digits = (
        {"+": r"(?:[+-]|(?i:%2b))", "/": r"(?:[/_]|(?i:%2f))"}.get(digit, re.escape(digit)) for digit in core
    )
    return f"{_BASE64}{_BREAK.join(digits)}{_BASE64}"
