"""Classes and functions of one's own by name: "package.module:Class", made without arguments, or "module:function"."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def load_class(location: str, what: str) -> type[Any]:
    """The class that "package.module:Class" names. what: who asks for it, such as "the reward 'my:Reward'".

    Raises ValueError when there is none, and ModuleNotFoundError when its module lacks a dependency.
    """
    found = _named(location, what)
    if not isinstance(found, type):
        raise ValueError(f"{what}: {location.partition(':')[0]} has no class {location.partition(':')[2]}")
    return found


def make_function(location: str, what: str) -> Any:
    """A function of that name as an object that is called like it and has its ``name``; None when it is no function.

    Raises as ``load_class`` does, and ValueError for a function that does not take records and samples.
    """
    found = _named(location, what)
    if not inspect.isroutine(found):
        return None
    try:
        inspect.signature(found).bind([], [])
    except TypeError as error:
        raise ValueError(f"{what}: the function must take records and samples ({error})") from None
    except ValueError:
        pass  # a function of C that does not say what it takes
    return _Function(found)


class _Function:
    """A plain function where an object with a name is wanted."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", "function"))
        self.needs = tuple(getattr(function, "needs", ()))

    def __call__(self, *given: Any) -> Any:
        return self.function(*given)


def _named(location: str, what: str) -> Any:
    module_name, _, attribute = location.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module itself lacks a dependency: that error names it
        raise ValueError(f"{what} names the module {module_name}, not found") from None
    return getattr(module, attribute, None)


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
