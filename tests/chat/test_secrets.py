"""A key never reaches a person, whatever form a server gives it."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus

import pytest

from pairuni.chat.secrets import cleared

SECRETS = ["open-sesame-1234", 'k/+?>"&\\x%41~~ü', "sk-Ab9/+/+/+zzzz=", "????>>>>~~~~"]
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda s: json.dumps(s)[1:-1],
    "json in json": lambda s: json.dumps(json.dumps(s))[3:-3],
    "repr": lambda s: repr(s)[1:-1],
    "html": escape,
    "html by numbers": lambda s: "".join(f"&#x{ord(c):X};" for c in s),
    "url": lambda s: quote(s, safe=""),
    "url, lower case": lambda s: quote(s, safe="").lower() if s.islower() else quote(s, safe=""),
    "url with slashes": quote,
    "form": quote_plus,
    "every character in the url": lambda s: "".join(f"%{b:02X}" for b in s.encode()),
    "unicode escapes": lambda s: "".join(f"\\u{ord(c):04x}" for c in s),
    "base64": lambda s: b64encode(s.encode()).decode(),
    "base64 of a url": lambda s: urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "base64 after one byte": lambda s: b64encode(b":" + s.encode()).decode(),
    "basic authentication": lambda s: b64encode(b"me:" + s.encode() + b"!").decode(),
    "bearer in base64": lambda s: urlsafe_b64encode(b"Bearer " + s.encode()).decode(),
    "hexadecimal": lambda s: s.encode().hex(),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_every_form(secret: str, form: str) -> None:
    written = FORMS[form](secret)
    said = cleared(f"refused: {written}, twice {written}.", secret)
    assert written not in said
    assert said.count("***") == 2
    assert said.startswith("refused: ")
    assert said.endswith(".")
    assert len(said) < 45 + 2 * len("QmVhcmVyI")


def test_words_that_are_no_secret_stay() -> None:
    text = "no-sesame, b3Blbi1zZXNhbWU and %6f"
    assert cleared(text, "open-sesame-1234") == text
    assert cleared("an answer to all", "an") == "an answer to all"
    assert cleared("an answer", "an", shortest=2) == "*** ***swer"
    assert cleared("nothing", "") == "nothing"
