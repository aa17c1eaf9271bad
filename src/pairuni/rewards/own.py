"""Classes of one's own by name: "package.module:Class", made without arguments."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def load_class(location: str, what: str) -> type[Any]:
    """The class that "package.module:Class" names. what: who asks for it, such as "the reward 'my:Reward'".

    Raises ValueError when there is none, and ModuleNotFoundError when its module lacks a dependency.
    """
    module_name, _, attribute = location.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module itself lacks a dependency: that error names it
        raise ValueError(f"{what} names the module {module_name}, not found") from None
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        raise ValueError(f"{what}: {module_name} has no class {attribute}")
    return found


def make_own(location: str, what: str, attributes: Mapping[str, type]) -> Any:
    """An object of that class, which can be called and has these attributes, each of its type.

    Raises ValueError saying what it lacks, and as ``load_class`` does.
    """
    kind = load_class(location, what)
    try:
        made = kind()
    except TypeError as error:
        raise ValueError(f"{what}: the class cannot be made without arguments ({error})") from error
    for name, wanted in attributes.items():
        if not isinstance(getattr(made, name, None), wanted):
            raise ValueError(f"{what}: the class must have `{name}`, a {wanted.__name__}")
    if not callable(made):
        raise ValueError(f"{what}: the class must have `__call__`")
    return made
