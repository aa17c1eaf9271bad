"""Settings described for readers: groups of keys with meaning, default, allowed values and the paper's value."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from pairuni.config.base import Settings
from pairuni.config.messages import section_classes


@dataclass(frozen=True)
class Setting:
    """One setting.

    key: as in a recipe, such as pairgrpo.learning_rate. default: None if the setting is required, or absent by default.
    allowed: type and range in words. paper: the paper's value, "" where the paper has no such setting.
    """

    key: str
    meaning: str
    required: bool
    default: Any
    allowed: str
    paper: str

    @property
    def choices(self) -> list[str]:
        """The values among which to choose, if there are any."""
        return re.findall("`([^`]+)`", self.allowed)


@dataclass(frozen=True)
class Group:
    """Settings that belong together: a table of a recipe, or those that one class adds to it.

    table: its name, such as policy.lora, or "" at the top; several: a list of such tables. optional: absent by
    default. variant: the type of a table with these settings, if others lack them. declared_by: the class with the
    docstrings.
    """

    table: str
    several: bool
    optional: bool
    variant: str
    declared_by: type[Settings]
    settings: tuple[Setting, ...]

    @property
    def about(self) -> str:
        """What the settings are for: the first paragraph of the class's docstring, on one line."""
        return _one_line((self.declared_by.__doc__ or "").partition("\n\n")[0]).replace("``", "`")


def describe(cls: type[Settings]) -> list[Group]:
    """All settings of ``cls`` in groups: the top level, by the class that declares them, then each table."""
    at_top: dict[type[Settings], list[Setting]] = {}
    tables: list[Group] = []
    for name, field in cls.model_fields.items():
        inner = list(_tables(name, field))
        tables += inner
        if not inner:
            at_top.setdefault(_declaring(cls, name), []).append(_setting(name, [field]))
    top = [Group("", False, False, "", declaring, tuple(found)) for declaring, found in at_top.items()]
    return [*top, *tables]


def _tables(name: str, field: FieldInfo) -> Iterator[Group]:
    """The groups of a field that is a table, or a list of tables; none for a plain value."""
    listed = typing.get_origin(field.annotation) is list
    variants = section_classes(typing.get_args(field.annotation)[0] if listed else field.annotation)
    if not variants:
        return
    optional = types.NoneType in typing.get_args(field.annotation)
    shared = [key for key in variants[0].model_fields if all(key in one.model_fields for one in variants)]
    base = next(one for one in variants[0].__mro__ if all(issubclass(variant, one) for variant in variants))
    yield from _table(name, listed, optional, "", base, variants, shared)
    for variant in variants if len(variants) > 1 else ():
        if own := [key for key in variant.model_fields if key not in shared]:
            kind = typing.get_args(variant.model_fields["type"].annotation)[0]
            yield from _table(name, listed, optional, kind, variant, [variant], own)


def _table(
    name: str,
    several: bool,
    optional: bool,
    variant: str,
    declared_by: type[Settings],
    variants: Sequence[type[Settings]],
    keys: Sequence[str],
) -> Iterator[Group]:
    """A table with these keys, then the tables inside it."""
    plain: list[Setting] = []
    inner: list[Group] = []
    for key in keys:
        found = list(_tables(f"{name}.{key}", variants[0].model_fields[key]))
        inner += found
        if not found:
            plain.append(_setting(f"{name}.{key}", [one.model_fields[key] for one in variants]))
    if plain:
        yield Group(name, several, optional, variant, declared_by, tuple(plain))
    yield from inner


def _setting(key: str, fields: Sequence[FieldInfo]) -> Setting:
    """A setting, of all variants of its table; meaning and default are those of the first."""
    first = fields[0]
    meaning, paper = without_paper(_one_line(first.description or "").replace("``", "`"))
    default = None if first.is_required() else first.get_default(call_default_factory=True)
    return Setting(key, meaning, first.is_required(), default, _allowed(fields), paper)


def without_paper(description: str) -> tuple[str, str]:
    """A docstring without its last words "(paper: VALUE)", and VALUE."""
    found = re.fullmatch(r"(.*) \(paper: ([^()]+)\)\.", description)
    return (f"{found[1]}.", found[2]) if found else (description, "")


def _declaring(cls: type[Settings], name: str) -> type[Settings]:
    return next(one for one in cls.__mro__ if name in inspect.get_annotations(one))


def _allowed(fields: Sequence[FieldInfo]) -> str:
    """Type and range in words; ``none`` where the setting may be absent but is not by default."""
    words = list(dict.fromkeys(word for field in fields for word in _types(field.annotation, field.metadata)))
    nothing = [] if fields[0].get_default(call_default_factory=True) is None else ["none"]
    return ", ".join([word for word in words if word != "none"] + [word for word in nothing if word in words])


def _types(annotation: Any, metadata: Sequence[Any]) -> Iterator[str]:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from _types(inner[0], [*metadata, *(one for given in inner[1:] for one in _limits(given))])
    elif origin in {typing.Union, types.UnionType}:
        for one in inner:
            yield from _types(one, metadata)
    elif origin is Literal:
        yield from (f"`{choice}`" for choice in inner)
    elif origin is list:
        words = list(_types(inner[0], ()))
        yield f"list of {f'{words[0]}s' if words[0] in {'string', 'path'} else ', '.join(words)}"
    elif annotation is types.NoneType:
        yield "none"
    elif annotation is bool:
        yield from ("`true`", "`false`")
    elif annotation in {int, float}:
        bounds = " and ".join(_bound(one) for one in metadata if isinstance(one, (Ge, Gt, Le, Lt)))
        yield f"{'integer' if annotation is int else 'number'} {bounds}".rstrip()
    else:
        yield {str: "string", Path: "path", dict: "table"}[origin or annotation]


def _limits(given: Any) -> Sequence[Any]:
    return given.metadata if isinstance(given, FieldInfo) else (given,)


def _bound(limit: Ge | Gt | Le | Lt) -> str:
    for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
        if hasattr(limit, name):
            return f"{sign} {getattr(limit, name):g}"
    raise TypeError(limit)


def _one_line(text: str) -> str:
    return " ".join(text.split())
