"""A user's reward function, at "package.module:function"."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pairuni.custom import load_attribute


def make_function(location: str, what: str) -> Any:
    """The function at ``location`` as a callable object with a ``name``; None if it is not a function.

    Raises what ``load_attribute`` raises, and ValueError for a function that does not take records and samples.
    """
    found = load_attribute(location, what)
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
