"""Who can reach a server: addresses of this machine, and tokens in the environment."""

from __future__ import annotations

import ipaddress
import os


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_reach(host: str, token: str, *, served: str, remedy: str) -> None:
    """Raise ValueError if other machines can reach what is served at ``host`` without a token.

    token: empty for none. served: its name, such as "app". remedy: what the person at the command can do.
    """
    if not (token or is_loopback(host)):
        raise ValueError(f"anyone who can reach {host} could use this {served}: {remedy}")


def token_in_environment(variable: str) -> str:
    """The token in an environment variable, stripped; empty if there is none.

    Raises ValueError for characters that an HTTP header cannot carry; the error does not quote the token.
    """
    token = os.environ.get(variable, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"the token in the environment variable {variable} contains a space, a line break or another character "
            "that is not allowed"
        )
    return token
