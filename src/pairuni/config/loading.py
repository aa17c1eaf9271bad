"""Settings from TOML recipes and dotted overrides."""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ValidationError

from pairuni.config.base import Settings, split_list
from pairuni.config.kinds import wrong_kind
from pairuni.config.messages import setting_keys, unknown_setting, without_variants, wrong_value
from pairuni.config.recipes import Values, file_of, find_recipe, merged, read_recipe

S = TypeVar("S", bound=Settings)


def load_settings(
    cls: type[S], recipe: str | Path | None = None, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> S:
    """Settings from a TOML recipe, then overrides: ``{"pairgrpo.learning_rate": 2e-6}``.

    cls: the class of the settings. recipe: a file, or the name of a shipped recipe. It may build on another one: its
    key ``base`` is the path of that recipe, relative to its own file, or the name of a shipped one. overrides: values
    by dotted key, or the words of a command line, ``["--pairgrpo.learning-rate", "2e-6"]`` or
    ``["--pairgrpo.learning-rate=2e-6"]``. Keys may be written with hyphens or underscores.

    Raises FileNotFoundError if the recipe does not exist, and ValueError with one sentence per mistake, naming the
    key, the value given and the allowed values.
    """
    files = {} if recipe is None else read_recipe(find_recipe(Path(recipe)))
    values = merged(files)
    if words := not isinstance(overrides, Mapping):
        given = _parse_overrides(cls, overrides)
    else:
        given = _checked_overrides(cls, overrides)
    for path, value in given.items():
        table = values
        for part in path[:-1]:
            inner = table.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = table[part] = {}
            table = inner
        table[path[-1]] = value
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        if (fault := wrong_kind(cls, merged(files))) is not None:
            raise ValueError(f"{recipe} {fault}") from None
        sentences = []
        for details in error.errors(include_url=False):
            loc = without_variants(cls, [str(part) for part in details["loc"]])
            path = tuple(part for part in loc if not part.isdigit())  # without places in lists
            key = ".".join(path)
            if path in given:
                where = "--" + key.replace("_", "-") if words else key
            else:
                named = recipe is not None and details["type"] != "missing"
                where = f"{_named(recipe, files, loc)}: {key}" if named else key
            sentences.append(wrong_value(cls, where, key, dict(details)))
        raise ValueError("\n".join(sentences)) from None


def _named(
    recipe: str | Path | None, files: Mapping[Path, Values], key: tuple[str, ...]
) -> str | Path | None:
    """The recipe as given, or the base that has this value."""
    path = file_of(files, key)
    return recipe if path == next(iter(files)) else path


def _checked_overrides(cls: type[Settings], overrides: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    keys = setting_keys(cls)
    given = {}
    for name, value in overrides.items():
        key = name.replace("-", "_")
        if key not in keys:
            raise ValueError(unknown_setting(cls, name, key))
        given[tuple(key.split("."))] = str(value) if isinstance(value, Path) else value
    return given


def _parse_overrides(cls: type[Settings], words: Sequence[str]) -> dict[tuple[str, ...], Any]:
    keys = setting_keys(cls)
    given: dict[tuple[str, ...], Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ValueError(f"{word!r} is not a setting; write settings as --section.key value")
        flag, equals, text = word.partition("=")
        key = flag[2:].replace("-", "_")
        if key not in keys:
            raise ValueError(unknown_setting(cls, flag, key))
        if not equals:
            if not rest:
                raise ValueError(f"{flag} needs a value; write {flag} VALUE or {flag}=VALUE")
            text = rest.pop(0)
        given[tuple(key.split("."))] = _parse_value(keys[key], text)
    return given


def _parse_value(annotation: Any, text: str) -> Any:
    """``text`` parsed for a field of this type; text that cannot be parsed is returned as a string."""
    options = [
        _bare(one) for one in (typing.get_args(annotation) if _is_union(annotation) else (annotation,))
    ]
    if type(None) in options and text.lower() in {"none", "null"}:
        return None
    wanted = {typing.get_origin(option) or option for option in options}
    if list in wanted and not text.lstrip().startswith("["):
        return split_list(text)
    if wanted & {int, float, bool, list}:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _bare(annotation: Any) -> Any:
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in {typing.Union, types.UnionType}
