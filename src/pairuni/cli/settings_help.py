"""--help of commands whose options are settings: the settings in groups, as they are written on a command line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

from pairuni.config import Settings
from pairuni.config.reference import Group, Setting, describe

_WIDEST = 28
"""Longest name, in characters, with its description on the same line; longer names have it on the next line."""
_NO_BREAK, _SHORT = "\xa0", 16


class SettingsCommand(TyperCommand):
    """A command whose options, or the keys of whose file, are the settings of a class."""

    settings: type[Settings]


def help_with(
    described_settings: type[Settings],
    heading: str,
    *,
    table: str = "",
    tables: bool = True,
    as_keys: bool = False,
) -> type[SettingsCommand]:
    """A command class whose --help ends with all settings of a class, under a heading.

    table: only those in this table. tables: false leaves out those in tables. as_keys: written as in a file, for a
    command that does not take them as options.
    """

    class CommandWithSettings(SettingsCommand):
        settings = described_settings

        def format_options(self, ctx: Any, formatter: Any) -> None:
            described = () if as_keys else self.settings.model_fields
            parameters = self.get_params(ctx)
            for title, kind in (("Arguments", "argument"), ("Options", "option")):
                own = [one for one in parameters if one.param_type_name == kind and one.name not in described]
                if rows := [row for one in own if (row := one.get_help_record(ctx)) is not None]:
                    with formatter.section(title):
                        formatter.write_dl(rows)
            spelled = {} if as_keys else {one.name: ", ".join(one.opts) for one in parameters}
            parts = [_wrapped(heading, formatter.width)]
            for group in describe(self.settings):
                if group.table.startswith(table) and (tables or not group.table):
                    parts.append(_group(group, formatter.width, spelled, as_keys))
            for lines in parts:
                formatter.write("\n" + "".join(f"{line}\n" for line in lines))

    return CommandWithSettings


def _group(group: Group, width: int, spelled: Mapping[str, str], as_keys: bool) -> list[str]:
    """The lines of a group: a title, then its settings. spelled: the options of those that the command declares."""
    table = f"[[{group.table}]]" if group.several else f"[{group.table}]"
    title = f"{table} {group.about}" if group.table else group.about
    lines = _wrapped(title.removesuffix(".") + ":", width)
    named = [(spelled.get(one.key) or _name(one, group, as_keys), one) for one in group.settings]
    column = 4 + max((len(name) for name, _ in named if len(name) <= _WIDEST), default=_WIDEST)
    for name, one in named:
        text = _wrapped(_text(one), width - column)
        if len(name) <= _WIDEST:
            lines.append(f"  {name}".ljust(column) + text.pop(0))
        else:
            lines.append(f"  {name}")
        lines += [" " * column + line for line in text]
    return lines


def _name(setting: Setting, group: Group, as_keys: bool) -> str:
    if as_keys:
        return setting.key.removeprefix(f"{group.table}.")
    return f"--{setting.key.replace('_', '-')}"


def _text(setting: Setting) -> str:
    """Meaning, and in brackets the choices that it does not name, an upper bound, the default, the paper's value."""
    notes = ["required"] if setting.required else []
    if not set(setting.choices) <= {"true", "false", *re.findall(r"[\w-]+", setting.meaning)}:
        notes.append(", ".join(setting.choices))
    elif "<" in setting.allowed:
        notes.append(setting.allowed.partition(" ")[2])
    default = _plain(setting.default)
    paper = "" if setting.paper.startswith("not stated") else setting.paper
    if default:
        notes.append(_note(f"default{' and paper' if _same(default, paper) else ''}", default))
    if paper and not _same(default, paper):
        notes.append(_note("paper", paper))
    return f"{setting.meaning} [{'; '.join(notes)}]" if notes else setting.meaning


def _note(name: str, value: str) -> str:
    """A short value stays on the line of its name."""
    return f"{name}:{_NO_BREAK if len(value) < _SHORT else ' '}{value}"


def _plain(value: Any) -> str:
    """A default as the value of an option; "" where there is nothing to show."""
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value in (None, {}) else str(value)


def _same(default: str, paper: str) -> bool:
    try:
        return float(default) == float(paper)
    except ValueError:
        return default == paper.partition(";")[0]


def _wrapped(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return [line.replace(_NO_BREAK, " ") for line in lines]
