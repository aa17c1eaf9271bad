"""Changes of settings within a run, one line in history.jsonl for each resume that changed any."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from pairuni.config import RunSettings, to_toml
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog

logger = logging.getLogger("pairuni")


def settings_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in both settings with different values: key -> (old, new)."""
    before, after = dotted(old), dotted(new)
    return {key: (before[key], after[key]) for key in after if key in before and before[key] != after[key]}


def record_changes(run: RunFolder, step: int, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Log and store what changes after ``step``; records of later steps are dropped."""
    log = MetricsLog(run.history)
    log.rewind(step)
    changes = settings_changes(old, new)
    for key, (was, now) in changes.items():
        logger.warning("from step %d on: %s is %s, was %s", step + 1, key, shown(now), shown(was))
    if changes:
        changed = {key: {"from": was, "to": now} for key, (was, now) in changes.items()}
        log.append({"step": step + 1, "at": time.strftime("%Y-%m-%d %H:%M:%S"), "changed": changed})
    if run.history.exists() and not run.history.stat().st_size:
        run.history.unlink()


def describe_settings(run: RunFolder, settings: RunSettings) -> str:
    """The content of config.toml: the current settings, and as comments the values of earlier steps."""
    lines = [
        f"# before step {row['step']}: {key} = {shown(values['from'])}\n"
        for row in MetricsLog(run.history).rows()
        for key, values in row.get("changed", {}).items()
    ]
    if lines:
        lines = ["# these settings are those of the last steps\n", *lines, "\n"]
    return "".join(lines) + to_toml(settings)


def shown(value: Any) -> str:
    """The value of a setting in a message."""
    return "none" if value is None else repr(value)


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, such as pairgrpo.steps."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
