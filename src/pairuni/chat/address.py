"""Where an endpoint is, and its key: checked, and shown without secrets."""

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
    """The base of an endpoint's paths, and the query that every request carries, such as Azure's api-version."""

    base: str
    query: str = ""

    @classmethod
    def of(cls, settings: EndpointSettings) -> Address:
        """That of the settings, else of OPENAI_BASE_URL, else OpenAI's. A trailing /chat/completions is left out."""
        parts = urlsplit(settings.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        path = parts.path.rstrip("/").removesuffix(_PATH).rstrip("/")
        return cls(urlunsplit((parts.scheme, parts.netloc, path, "", "")), parts.query)

    @property
    def url(self) -> str:
        """Where chat completions are asked for."""
        return f"{self.base}{_PATH}{'?' if self.query else ''}{self.query}"

    def __str__(self) -> str:
        return redact_url(f"{self.base}{'?' if self.query else ''}{self.query}")

    @property
    def is_azure(self) -> bool:
        """Whether the key goes into the header api-key as well."""
        names = {name.lower() for name, _ in parse_qsl(self.query)}
        return "api-version" in names or bool(_AZURE.search(urlsplit(self.base).hostname or ""))

    def versioned(self) -> Address | None:
        """The same with /v1, where there is no path yet."""
        return None if urlsplit(self.base).path else replace(self, base=f"{self.base}/v1")

    def redirected(self, location: str) -> Address | None:
        """Where a redirection leads, when that is a chat endpoint of the same host, to which the key may be sent."""
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
    """Raises ValueError, which does not quote it, for a key where it would be written into files."""
    variable = settings.key_variable
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise ValueError(
            f"{section}.key_variable must be the name of an environment variable, such as OPENAI_API_KEY; "
            "it does not look like one, and is not shown here because it may be the key itself"
        )
    url, name = settings.base_url, f"{section}.base_url"
    if url is None:
        url, name = os.environ.get("OPENAI_BASE_URL"), "the environment variable OPENAI_BASE_URL"
    if not url:
        return
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query, keep_blank_values=True)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:  # no address of IPv6, or no port; it is not shown, as it may hold a key
        raise ValueError(f"{name} must be like http://localhost:8000/v1") from None
    key = os.environ.get(variable, "").strip()
    secret = any(may_be_secret(one, value) or (key and key in value) for one, value in asked)
    if "@" in url or parts.fragment or secret:
        raise ValueError(
            f"{name} must hold no user, password or query that may be a key; a key belongs into the environment "
            f"variable {variable}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one:
        raise ValueError(f"{name} is {redact_url(url, key)!r}, but must be like http://localhost:8000/v1")


def key_from_environment(settings: EndpointSettings, section: str) -> str:
    """The stripped key; "none" for your own server without a key. Raises ValueError, which never quotes it."""
    check_secrets(settings, section)
    variable = settings.key_variable
    key = os.environ.get(variable, "").strip()
    if not key:
        if settings.base_url is not None or "OPENAI_BASE_URL" in os.environ:
            return "none"
        raise ValueError(f"the environment variable {variable} is not set; it must hold the endpoint's key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the environment variable {variable} holds characters that no key has")
    return key
