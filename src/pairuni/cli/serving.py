"""pairuni serve-reward: a reward for training runs elsewhere. pairuni app: a web page for a person."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.config import RewardSettings, RunSettings, Settings, load_settings
from pairuni.io.access import check_reach, token_in_environment

APP_TOKEN = "PAIRUNI_APP_TOKEN"
"""The environment variable with the token of the app; an option would be visible to others in the process list."""
SHORTEST_TOKEN = 8


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

    variable = settings.remote.token_variable
    token = token_from_environment(variable)
    if not unguarded:
        remedy = (
            f"set {variable} here and on the machines that train, or allow requests without a token with "
            "--unguarded"
        )
        check_reach(host, token, served="reward", remedy=remedy)
    with RewardServer(any_reward(name, settings), (host, port), token, limit=settings.timeout) as server:
        typer.echo(f"{name}: {server.url}/score and {server.url}/health; Ctrl-C stops")
        server.serve_forever()
    typer.echo("stopped", err=True)


def serve_app(
    models: Sequence[str],
    pairs: Sequence[Path],
    runs: Sequence[Path],
    *,
    host: str,
    port: int,
    device: str,
    dtype: str,
) -> None:
    """Serve the app until Ctrl-C, SIGTERM or SIGHUP. models: by default the runs, or else the tiny model.

    Raises OSError if the port is in use, and ValueError for other machines without a token or for a short token.
    """
    token = token_in_environment(APP_TOKEN)
    remedy = f"set {APP_TOKEN} to a token, which the browser then asks for as a password"
    check_reach(host, token, served="app", remedy=remedy)
    if 0 < len(token) < SHORTEST_TOKEN:
        raise ValueError(f"the token in {APP_TOKEN} is too short; use at least {SHORTEST_TOKEN} characters")

    from pairuni.app.models import Models
    from pairuni.app.pair_browser import PairBrowser
    from pairuni.app.run_watch import RunWatch
    from pairuni.app.server import AppServer

    names = list(models) or [str(run) for run in runs] or ["tiny"]
    server = AppServer(
        Models(names, device=device, dtype=dtype),
        [PairBrowser(path) for path in pairs],
        [RunWatch(path) for path in runs],
        address=(host, port),
        token=token,
    )
    typer.echo(f"app: {server.url}; Ctrl-C stops")
    server.serve_forever()
    typer.echo("stopped", err=True)
