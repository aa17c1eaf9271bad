"""pairuni serve-reward: a reward for training runs in other processes or on other machines."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.config import RewardSettings, RunSettings, Settings, load_settings


class ServedSettings(Settings):
    """The settings of a served reward without a recipe."""

    reward: RewardSettings = RewardSettings()


def serve(
    name: str, overrides: Sequence[str], *, recipe: Path | None, host: str, port: int, unguarded: bool
) -> None:
    """Serve a reward until Ctrl-C, SIGTERM or SIGHUP. unguarded: other machines need no token.

    Raises OSError if the port is in use, and ValueError for an unknown name or for other machines without a token.
    """
    if recipe is None:
        settings = load_settings(ServedSettings, None, overrides).reward
    else:
        settings = load_settings(RunSettings, recipe, overrides).reward

    from pairuni.rewards.registry import any_reward
    from pairuni.rewards.service.server import RewardServer
    from pairuni.rewards.service.wire import token_from_environment

    token = token_from_environment(settings.remote.token_variable)
    if not (token or unguarded or _is_loopback(host)):
        raise ValueError(
            f"anyone who can reach {host} could use this reward: set {settings.remote.token_variable} here and "
            "on the machines that train, or allow requests without a token with --unguarded"
        )
    with RewardServer(any_reward(name, settings), (host, port), token, limit=settings.timeout) as server:
        typer.echo(f"{name}: {server.url}/score and {server.url}/health; Ctrl-C stops")
        server.serve_forever()
    typer.echo("stopped", err=True)


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
