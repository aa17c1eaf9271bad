"""A key never reaches a person, whatever form a server gives it."""

from __future__ import annotations

import json
import textwrap
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus

import pytest

from pairuni.chat.secrets import may_be_secret, redact, redact_url

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
    "wrapped": lambda s: f"{s[:5]}\n{s[5:]}",
    "wrapped in JSON": lambda s: json.dumps(f"{s[:5]}\r\n{s[5:]}")[1:-1],
    "base64 in short lines": lambda s: "\n".join(textwrap.wrap(b64encode(s.encode()).decode(), 9)),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_every_form(secret: str, form: str) -> None:
    written = FORMS[form](secret)
    said = redact(f"refused: {written}, twice {written}.", secret)
    assert written not in said
    assert said.count("***") == 2
    assert said.startswith("refused: ")
    assert said.endswith(".")
    assert len(said) < 45 + 2 * len("QmVhcmVyI")


def test_words_that_are_no_secret_stay() -> None:
    text = "no-sesame, b3Blbi1zZXNhbWU and %6f"
    assert redact(text, "open-sesame-1234") == text
    assert redact("an answer to all", "an") == "an answer to all"
    assert redact("an answer", "an", shortest=2) == "*** ***swer"
    assert redact("nothing", "") == "nothing"


def test_a_secret_with_line_ends_is_hidden_whole_and_by_lines() -> None:
    secret = "first-line-of-token\nsecond-line-of-token"
    for said in (
        secret,
        repr(secret),
        secret.replace("\n", "\r\n"),
        " ".join(secret.split()),
        quote(secret),
        "only second-line-of-token was wrong",
    ):
        shown = redact(said, secret)
        assert "first-line" not in shown
        assert "second-line" not in shown


@pytest.mark.parametrize("text", ["\\" * 100_000, "open-sesame-" * 20_000, " " * 100_000, "o\n" * 50_000])
def test_long_texts_take_linear_time(text: str) -> None:
    before = time.monotonic()
    assert redact(text + "open-sesame-1234", "open-sesame-1234").endswith("***")
    assert time.monotonic() - before < 20


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v1", "https://host/v1"),
        ("https://host/d?api-version=2025-01-01-preview", "https://host/d?api-version=2025-01-01-preview"),
        ("https://me:pass@host:8000/v1", "https://***@host:8000/v1"),
        ("https://host/v1?api_key=abc&region=eu", "https://host/v1?api_key=***&region=eu"),
        ("https://host/v1?x=sk-abcdefghijkl", "https://host/v1?x=***"),
        ("https://host/v1#token", "https://host/v1#***"),
        ("https://host/open%2Dsesame-1234/v1", "https://host/***/v1"),
        ("http://[::1/v1", "http://[::1/v1"),
    ],
)
def test_urls_as_they_are_printed(url: str, shown: str) -> None:
    assert redact_url(url, "open-sesame-1234") == shown


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("api-version", "2025-01-01-preview", False),
        ("deployment", "gpt-4o-mini-2024-07-18", False),
        ("model", "Qwen2.5-VL-72B-Instruct-AWQ", False),
        ("version", "v1", False),
        ("api-key", "x", True),
        ("subscription-key", "x", True),
        ("access_token", "x", True),
        ("sig", "x", True),
        ("X-Amz-Signature", "x", True),
        ("code", "x", True),
        ("api-version", "sk-proj-abc", True),
        ("id", "550e8400-e29b-41d4-a716-446655440000", True),
        ("q", "0123456789abcdef0123456789abcdef", True),
    ],
)
def test_parameters_that_may_be_secret(name: str, value: str, secret: bool) -> None:
    assert may_be_secret(name, value) is secret
