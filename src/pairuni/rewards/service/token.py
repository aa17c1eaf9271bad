"""The token of a reward server, from the environment of both sides; no sentence ever quotes it."""

from __future__ import annotations

import os
import re


def token_from_environment(variable: str) -> str:
    """The stripped token; empty when there is none.

    Raises ValueError for a variable's name that cannot be one, and for characters that a header cannot carry.
    """
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise ValueError(
            "reward.remote.token_variable must be the name of an environment variable, such as "
            "PAIRUNI_REWARD_TOKEN; it does not look like one, and is not shown here because it may be the token itself"
        )
    token = os.environ.get(variable, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"the environment variable {variable} holds a blank, a line end or another character that a token "
            "cannot have"
        )
    return token
