"""Users' own classes and functions by location: "package.module:Class" or "package.module:function"."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any


def is_location(name: str) -> bool:
    """Whether ``name`` has the form "package.module:name", which no path of a file and no hub name has."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), attribute])


def load_attribute(location: str, what: str) -> Any:
    """What the location names; None if its module has nothing of that name.

    what: its role, for errors, such as "the reward 'my:Reward'". Raises ValueError if there is no such module, and
    ModuleNotFoundError if the module lacks a dependency.
    """
    module_name, _, attribute = location.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # a dependency of the module is missing: the error names it
        raise ValueError(f"{what} names the module {module_name}, which was not found") from None
    return getattr(module, attribute, None)


def load_class(location: str, what: str) -> type[Any]:
    """The class at "package.module:Class".

    Raises ValueError if there is none, and what ``load_attribute`` raises.
    """
    found = load_attribute(location, what)
    if not isinstance(found, type):
        module, _, name = location.partition(":")
        close = difflib.get_close_matches(name, vars(importlib.import_module(module)), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{what}: {module} has no class {name}{hint}")
    return found


def make_instance(location: str, what: str) -> Any:
    """An object of the class at ``location``, made without arguments.

    Raises ValueError if the class needs some, and what ``load_class`` raises.
    """
    kind = load_class(location, what)
    try:
        return kind()
    except TypeError as error:
        raise ValueError(f"{what}: the class cannot be made without arguments ({error})") from error


def make_object(location: str, what: str, attributes: Mapping[str, type] | None = None) -> Any:
    """A callable object of the class at ``location``, made without arguments.

    attributes: required attributes and their types. Raises ValueError naming a missing one, and the errors of
    ``make_instance``.
    """
    made = make_instance(location, what)
    for name, wanted in (attributes or {}).items():
        if not isinstance(getattr(made, name, None), wanted):
            raise ValueError(f"{what}: the class must have `{name}`, a {wanted.__name__}")
    if not callable(made):
        raise ValueError(f"{what}: the class must have `__call__`")
    return made
