"""A reward served to training runs elsewhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.config import RewardSettings, RunSettings, Settings, load_settings
from pairuni.rewards.service.token import token_from_environment


class ServedSettings(Settings):
    """What a served reward may be told without a recipe."""

    reward: RewardSettings = RewardSettings()


def serve(
    name: str, overrides: Sequence[str], *, recipe: Path | None, host: str, port: int, unguarded: bool
) -> None:
    """Serve a reward until Ctrl-C, SIGTERM or SIGHUP. unguarded: other machines may use it without a token.

    Raises OSError when the port is taken, ValueError for an unknown name, and for other machines without a token.
    """
    if recipe is None:
        settings = load_settings(ServedSettings, None, overrides).reward
    else:
        settings = load_settings(RunSettings, recipe, overrides).reward
    token = token_from_environment(settings.remote.token_variable)

    from pairuni.rewards.registry import any_reward
    from pairuni.rewards.service.server import RewardServer

    if not (token or unguarded or _is_own(host)):
        raise ValueError(
            f"anybody who reaches {host} could use this reward: set {settings.remote.token_variable} here and where "
            "runs train, or let everybody in by --unguarded"
        )
    with RewardServer(any_reward(name, settings), (host, port), token, limit=settings.timeout) as server:
        typer.echo(f"{name}: {server.url}/score and {server.url}/health; Ctrl-C stops")
        server.serve_forever()
    typer.echo("stopped", err=True)


def _is_own(host: str) -> bool:
    """Whether this machine alone reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
