"""Users' own classes and functions by location: "package.module:Class" or "package.module:function"."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any


def load_class(location: str, what: str) -> type[Any]:
    """The class at "package.module:Class". what: its role, for errors, such as "the reward 'my:Reward'".

    Raises ValueError if there is none, and ModuleNotFoundError if its module lacks a dependency.
    """
    found = _attribute(location, what)
    if not isinstance(found, type):
        raise ValueError(f"{what}: {location.partition(':')[0]} has no class {location.partition(':')[2]}")
    return found


def make_object(location: str, what: str, attributes: Mapping[str, type]) -> Any:
    """A callable object of the class at ``location``, made without arguments.

    attributes: required attributes and their types. Raises ValueError naming a missing one, and the errors of
    ``load_class``.
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


def make_function(location: str, what: str) -> Any:
    """The function at ``location`` as a callable object with a ``name``; None if it is not a function.

    Raises what ``load_class`` raises, and ValueError for a function that does not take records and samples.
    """
    found = _attribute(location, what)
    if not inspect.isroutine(found):
        return None
    try:
        inspect.signature(found).bind([], [])
    except TypeError as error:
        raise ValueError(f"{what}: the function must take records and samples ({error})") from None
    except ValueError:
        pass  # a C function without a signature
    return _NamedFunction(found)


class _NamedFunction:
    """A plain function as an object with a name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", "function"))
        self.needs = tuple(getattr(function, "needs", ()))

    def __call__(self, *given: Any) -> Any:
        return self.function(*given)


def _attribute(location: str, what: str) -> Any:
    module_name, _, attribute = location.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # a dependency of the module is missing: the error names it
        raise ValueError(f"{what} names the module {module_name}, which was not found") from None
    return getattr(module, attribute, None)
