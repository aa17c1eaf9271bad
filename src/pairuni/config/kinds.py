"""The kinds of recipes: which command reads which settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pairuni.config.base import Settings
from pairuni.config.evaluation import SuiteSettings
from pairuni.config.pairs import PairsSettings
from pairuni.config.run import RunSettings
from pairuni.config.study import StudySettings

COMMANDS: dict[type[Settings], str] = {
    RunSettings: "pairuni train",
    PairsSettings: "pairuni pairs build",
    StudySettings: "pairuni ablate",
    SuiteSettings: "pairuni eval all",
}


def wrong_kind(cls: type[Settings], values: Mapping[str, Any]) -> str | None:
    """What is wrong with a recipe all of whose keys are those of another command than that of ``cls``; or None."""
    if cls not in COMMANDS or values.keys() <= cls.model_fields.keys():
        return None
    fitting = [command for other, command in COMMANDS.items() if values.keys() <= other.model_fields.keys()]
    if len(fitting) != 1:
        return None
    return f"is a recipe of `{fitting[0]}`, but settings of `{COMMANDS[cls]}` are wanted"
