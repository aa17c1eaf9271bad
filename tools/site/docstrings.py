"""A Griffe extension: docstrings of this code base as Griffe's parser of Google's style wants them."""

from __future__ import annotations

from typing import Any

import griffe

from tools.site.prose import with_links, with_section


class HouseDocstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        """Rewrite every docstring of a loaded package."""
        _rewrite(pkg, {str(name) for name in pkg.exports or () if not str(name).startswith("_")})


def _rewrite(owner: Any, public: set[str]) -> None:
    for member in owner.members.values():
        if member.is_alias:
            continue
        if member.docstring is not None:
            text = with_section(member.docstring.value, *_described(member))
            member.docstring.value = with_links(text, public - {member.name})
        if member.is_module or member.is_class:
            _rewrite(member, public)


def _described(member: Any) -> tuple[list[str], str]:
    """The names that a docstring may describe, and the section that they go to."""
    if member.is_function:
        return [one.name for one in member.parameters], "Args"
    if member.is_class and "__init__" in member.members:
        return [one.name for one in member.parameters], "Args"
    if member.is_class:
        return [name for name, one in member.members.items() if one.is_attribute], "Attributes"
    return [], ""
