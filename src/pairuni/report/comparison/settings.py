"""The settings in which runs differ."""

from __future__ import annotations

from collections.abc import Sequence

from pairuni.console.counts import counted
from pairuni.report.comparison.runs import Compared
from pairuni.report.data import plain
from pairuni.report.document import html_table
from pairuni.report.markup import escape, section
from pairuni.runs.history import dotted


def settings(runs: Sequence[Compared]) -> str:
    """A table of the settings that are not the same in all runs, a run in each column."""
    known = [(one, dotted(one.run.config)) for one in runs if one.run.config]
    if len(known) < 2:
        return ""
    keys = dict.fromkeys(key for _, values in known for key in values)
    shown = {key: [plain(values[key]) if key in values else None for _, values in known] for key in keys}
    differ = {key: values for key, values in shown.items() if len(set(values)) > 1}
    same = counted(len(shown) - len(differ), "setting")
    if not differ:
        return section("settings", "Settings", "", f"All runs have the same {same}.")
    rows = [
        [escape(key), *("<i>not set</i>" if value is None else escape(value) for value in values)]
        for key, values in differ.items()
    ]
    return section(
        "settings",
        "Settings that differ",
        html_table(["setting", *(one.key for one, _ in known)], rows),
        f"From the config.toml of each run; {same} are the same in all.",
    )
