"""Commands whose options are a settings class: names, types, bounds and help are declared only there."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from pairuni.cli.settings_help import help_with
from pairuni.config import Settings, load_settings
from pairuni.config.toml import toml_value

Run = Callable[..., None]

SETTINGS_AS_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Context settings of a command that parses ``ctx.args`` as dotted settings."""

SETTINGS_HEADING = "Settings, in the recipe or as options. Options override the recipe."
"""Where --help begins to list settings."""

_RECIPE = Annotated[
    Path | None, typer.Argument(help="TOML file with any of these settings; options override it.")
]


def settings_command(
    app: typer.Typer,
    settings: type[Settings],
    name: str | None = None,
    *,
    recipe: bool = True,
    arguments: Sequence[str] = (),
    flags: Mapping[str, Sequence[str]] | None = None,
) -> Callable[[Run], Run]:
    """Register the decorated function as a command that reads ``settings`` from a recipe and from options.

    The function receives the loaded settings as its first argument; further parameters are typer's as usual. Each
    field of ``settings`` becomes an option whose help is the field's docstring. recipe: the command accepts a TOML
    file as its first argument. arguments: fields given by position. flags: other spellings of an option, such as
    {"count": ("-n", "--count")}.
    """
    fields = [*arguments, *(field for field in settings.model_fields if field not in arguments)]
    declared = [
        _parameter(
            field,
            settings.model_fields[field],
            (flags or {}).get(field),
            positional=field in arguments,
            required=not recipe,
        )
        for field in fields
    ]

    def register(run: Run) -> Run:
        def command(context: typer.Context, **values: Any) -> None:
            path = values.pop("recipe", None)
            given = {
                field: value
                for field in fields
                if (value := values.pop(field)) is not None and _was_given(context, field)
            }
            words = [f"--{field}={_as_text(value)}" for field, value in given.items()]
            run(load_settings(settings, path, words), **values)

        own = list(inspect.signature(run, eval_str=True).parameters.values())[1:]
        parameters = [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *([_keyword("recipe", _RECIPE, None)] if recipe else []),
            *declared,
            *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own),
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__doc__ = run.__doc__
        # fields given by position stand among the arguments
        help_class = help_with(settings, SETTINGS_HEADING) if recipe and not arguments else None
        app.command(name or run.__name__.replace("_", "-"), cls=help_class)(command)
        return run

    return register


def _parameter(
    field: str, info: FieldInfo, spelling: Sequence[str] | None, *, positional: bool, required: bool
) -> inspect.Parameter:
    """A field as a typer option. required: a field without a default must be on the command line."""
    kind = _plain(info.annotation)
    bounds: dict[str, Any] = {}
    for limit in info.metadata:
        if isinstance(limit, Ge):
            bounds["min"] = limit.ge
        elif isinstance(limit, Le):
            bounds["max"] = limit.le
    missing = info.is_required()
    text = " ".join((info.description or "").split())
    default: Any = None if missing else info.get_default(call_default_factory=True)
    if missing and required:
        default = inspect.Parameter.empty
    elif missing:
        kind, text = kind | None, f"{text} Required, here or in the recipe."
    if positional:
        return _keyword(field, Annotated[kind, typer.Argument(help=text, **bounds)], default)
    names = spelling or (f"--{field.replace('_', '-')}",)
    return _keyword(field, Annotated[kind, typer.Option(*names, help=text, **bounds)], default)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _plain(annotation: Any) -> Any:
    """The annotation without pydantic's metadata, which typer cannot read inside a union."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _plain(inner[0])
    if origin is list:
        return list[_plain(inner[0])]  # type: ignore[misc]
    if origin in {typing.Union, types.UnionType}:
        return typing.Union[tuple(_plain(one) for one in inner)]  # noqa: UP007
    return annotation


def _was_given(context: typer.Context, field: str) -> bool:
    source = context.get_parameter_source(field)
    return source is not None and source.name != "DEFAULT"


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return toml_value([str(one) if isinstance(one, Path) else one for one in value])
    return toml_value(value) if isinstance(value, bool) else str(value)
