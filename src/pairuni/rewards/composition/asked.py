"""What is asked of an image, in the form of GenEval's metadata, checked before anything is judged by it.

``{"tag": "counting", "include": [{"class": "dog", "count": 2, "color": "red", "position": ["left of", 0]}], "exclude":
[{"class": "dog", "count": 3}]}``: ``color`` and ``position`` (of an earlier clause's objects) may be left out, as may
``exclude`` and ``tag``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pairuni.rewards.composition.rules import COLOURS, RELATIONS

_KEYS = {"include": {"class", "count", "color", "position"}, "exclude": {"class", "count"}}


def checked(asked: Mapping[str, Any], labels: frozenset[str], where: str) -> Mapping[str, Any]:
    """``asked`` itself, when it asks for something and only for classes of ``labels``.

    where: what it belongs to, for the error. Raises ValueError naming the clause.
    """
    if not asked.get("include"):
        raise ValueError(f'{where} asks for no objects; it needs "include", as in GenEval\'s metadata')
    for part, keys in _KEYS.items():
        clauses = asked.get(part, ())
        if not isinstance(clauses, Sequence) or isinstance(clauses, str):
            raise ValueError(f"{where}: {part!r} is no list of clauses")
        for place, clause in enumerate(clauses):
            fault = _fault(clause, keys, place, labels)
            if fault is not None:
                raise ValueError(f"{where}: clause {place} of {part!r} {fault}")
    return asked


def _fault(clause: Any, keys: set[str], place: int, labels: frozenset[str]) -> str | None:
    if not isinstance(clause, Mapping):
        return "is no object with class and count"
    if unknown := sorted(set(clause) - keys):
        return f"has the unknown key {unknown[0]!r}; known: {', '.join(sorted(keys))}"
    name, count = clause.get("class"), clause.get("count")
    if not isinstance(name, str) or name not in labels:
        close = difflib.get_close_matches(str(name), sorted(labels), n=1)
        return f"names the class {name!r}, which the detector does not know" + (
            f"; did you mean {close[0]!r}?" if close else ""
        )
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return f"has the count {count!r}; it must be a whole number above 0"
    if clause.get("color", COLOURS[0]) not in COLOURS:
        return f"names the colour {clause['color']!r}; known: {', '.join(COLOURS)}"
    if "position" in clause:
        match clause["position"]:
            case [str() as relation, int() as target] if relation in RELATIONS and 0 <= target < place:
                return None
        return (
            f"has the position {clause['position']!r}; it must be one of {', '.join(RELATIONS)} and the number of an "
            "earlier clause"
        )
    return None
