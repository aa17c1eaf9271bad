"""A reward served to training runs elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import typer

from pairuni.config import RewardSettings, RunSettings, Settings, load_settings

logger = logging.getLogger("pairuni")


class ServedSettings(Settings):
    """What a served reward may be told without a recipe."""

    reward: RewardSettings = RewardSettings()


def serve(name: str, overrides: Sequence[str], *, recipe: Path | None, host: str, port: int) -> None:
    """Serve a reward until Ctrl-C. Raises OSError when the port is taken, ValueError for an unknown name."""
    if recipe is None:
        settings = load_settings(ServedSettings, None, overrides).reward
    else:
        settings = load_settings(RunSettings, recipe, overrides).reward
    token = os.environ.get(settings.remote.token_variable, "").strip()

    from pairuni.rewards.registry import any_reward
    from pairuni.rewards.server import RewardServer

    if host not in ("127.0.0.1", "localhost") and not token:
        logger.warning(
            "anybody who reaches %s:%d can use this reward; set %s here and where runs train",
            *(host, port, settings.remote.token_variable),
        )
    with RewardServer(any_reward(name, settings), (host, port), token) as server:
        typer.echo(f"{name}: {server.url}/score and {server.url}/health; Ctrl-C stops")
        server.serve_forever()
