"""The address of an endpoint and its key, checked, and printed without secrets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pairuni.chat.secrets import may_be_secret, redact_url
from pairuni.config import EndpointSettings

OPENAI = "https://api.openai.com/v1"

_PATH = "/chat/completions"
_AZURE = re.compile(r"(?:^|\.)azure\.(?:com|us|cn)$")


@dataclass(frozen=True)
class Address:
    """The base URL of an endpoint, and the query sent with every request, such as Azure's api-version."""

    base: str
    query: str = ""

    @classmethod
    def of(cls, settings: EndpointSettings) -> Address:
        """From the settings, else OPENAI_BASE_URL, else OpenAI's. A trailing /chat/completions is removed."""
        parts = urlsplit(settings.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        path = parts.path.rstrip("/").removesuffix(_PATH).rstrip("/")
        return cls(urlunsplit((parts.scheme, parts.netloc, path, "", "")), parts.query)

    @property
    def url(self) -> str:
        """Where requests for chat completions are sent."""
        return f"{self.base}{_PATH}{'?' if self.query else ''}{self.query}"

    def __str__(self) -> str:
        return redact_url(f"{self.base}{'?' if self.query else ''}{self.query}")

    @property
    def is_azure(self) -> bool:
        """Whether the key is also sent in the header api-key."""
        names = {name.lower() for name, _ in parse_qsl(self.query)}
        return "api-version" in names or bool(_AZURE.search(urlsplit(self.base).hostname or ""))

    def versioned(self) -> Address | None:
        """The address with /v1, or None if it has a path already."""
        return None if urlsplit(self.base).path else replace(self, base=f"{self.base}/v1")

    def redirected(self, location: str) -> Address | None:
        """The target of a redirection if it is a chat endpoint of the same host, which may get the key; else None."""
        old, new = urlsplit(self.url), urlsplit(location)
        scheme = new.scheme or old.scheme
        same = (new.hostname or old.hostname) == old.hostname
        upgraded = old.scheme == "http" and scheme == "https"
        same_port = not new.netloc or new.port == old.port or upgraded
        path = new.path.rstrip("/")
        if not same or not same_port or scheme not in (old.scheme, "https") or not path.endswith(_PATH):
            return None
        base = urlunsplit((scheme, new.netloc or old.netloc, path.removesuffix(_PATH), "", ""))
        return Address(base, self.query or new.query)


def check_secrets(settings: EndpointSettings, section: str) -> None:
    """Raises ValueError, without quoting it, for a key in a setting, since settings are written to files."""
    variable = settings.key_variable
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise ValueError(
            f"{section}.key_variable must be the name of an environment variable, such as OPENAI_API_KEY; "
            "it is not a valid name, and is not shown here because it may be the key itself"
        )
    url, name = settings.base_url, f"{section}.base_url"
    if url is None:
        url, name = os.environ.get("OPENAI_BASE_URL"), "the environment variable OPENAI_BASE_URL"
    if not url:
        return
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:  # a bad IPv6 address or port; not shown, as it may hold a key
        raise ValueError(f"{name} must be like http://localhost:8000/v1") from None
    key = os.environ.get(variable, "").strip()
    secret = any(may_be_secret(one, value) or (key and key in value) for one, value in query)
    if "@" in url or parts.fragment or secret:
        raise ValueError(
            f"{name} must not contain a user, password or query that may be a key; put the key into the "
            f"environment variable {variable}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one:
        raise ValueError(f"{name} is {redact_url(url, key)!r}, but must be like http://localhost:8000/v1")


def key_from_environment(settings: EndpointSettings, section: str) -> str:
    """The stripped key; "none" for a custom server without a key. Raises ValueError, which never quotes it."""
    check_secrets(settings, section)
    variable = settings.key_variable
    key = os.environ.get(variable, "").strip()
    if not key:
        if settings.base_url is not None or "OPENAI_BASE_URL" in os.environ:
            return "none"
        raise ValueError(f"the environment variable {variable} is not set; set it to the endpoint's key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the environment variable {variable} contains characters that no key has")
    return key
