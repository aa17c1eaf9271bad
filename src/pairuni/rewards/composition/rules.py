"""GenEval's rules (arXiv:2310.11513): whether detected objects are what a prompt's metadata requires.

Metadata: ``{"tag": "counting", "include": [{"class": "dog", "count": 2, "color": "red", "position": ["left of", 0]}],
"exclude": [{"class": "dog", "count": 3}]}``. ``color``, ``position`` (relative to the objects of an earlier clause),
``exclude`` and ``tag`` are optional.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.rewards.composition.detection import Detection, Objects

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
MAX_OBJECTS = 16
"""The most confident objects of a class that are kept."""
THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
"""Confidence that an object must exceed, in general and where objects are counted."""
_DEAD_ZONE = 0.1
"""An offset below this share of both objects' sizes does not count as a relative position."""
_CLAUSE_KEYS = {"include": {"class", "count", "color", "position"}, "exclude": {"class", "count"}}


def check_metadata(metadata: Mapping[str, Any], labels: frozenset[str], where: str) -> Mapping[str, Any]:
    """The metadata itself, if it requires something and only classes of ``labels``.

    where: its source, for the error. Raises ValueError naming the clause.
    """
    if not metadata.get("include"):
        raise ValueError(f'{where} requires no objects; it needs "include", as in GenEval\'s metadata')
    for part, keys in _CLAUSE_KEYS.items():
        clauses = metadata.get(part, ())
        if not isinstance(clauses, Sequence) or isinstance(clauses, str):
            raise ValueError(f"{where}: {part!r} is not a list of clauses")
        for place, clause in enumerate(clauses):
            fault = _clause_fault(clause, keys, place, labels)
            if fault is not None:
                raise ValueError(f"{where}: clause {place} of {part!r} {fault}")
    return metadata


def _clause_fault(clause: Any, keys: set[str], place: int, labels: frozenset[str]) -> str | None:
    if not isinstance(clause, Mapping):
        return "is not an object with class and count"
    if unknown := sorted(set(clause) - keys):
        return f"has the unknown key {unknown[0]!r}; known: {', '.join(sorted(keys))}"
    name, count = clause.get("class"), clause.get("count")
    if not isinstance(name, str) or name not in labels:
        close = difflib.get_close_matches(str(name), sorted(labels), n=1)
        return f"names the class {name!r}, which the detector does not know" + (
            f"; did you mean {close[0]!r}?" if close else ""
        )
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return f"has the count {count!r}; it must be an integer above 0"
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


def confident_objects(
    objects: Objects,
    tag: str,
    *,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
) -> dict[str, list[Detection]]:
    """The objects of each class above the threshold, the most confident first; "counting" has its own threshold."""
    least = counting_threshold if tag == "counting" else threshold
    confident = {
        name: sorted((one for one in found if one.confidence > least), key=lambda one: -one.confidence)
        for name, found in objects.items()
    }
    return {name: found[:MAX_OBJECTS] for name, found in confident.items() if found}


def positions(one: Detection, other: Detection) -> set[str]:
    """Where ``one`` is relative to ``other``: none, one or two of ``RELATIONS``.

    In each direction, the offset of the centres less a tenth of both sizes must be more than half of the length of
    the full offset.
    """
    (x, width), (y, height) = _offset_and_sizes(one, other, 0), _offset_and_sizes(one, other, 1)
    x_clear, y_clear = _beyond_dead_zone(x, width), _beyond_dead_zone(y, height)
    if abs(x_clear) < 1e-3 and abs(y_clear) < 1e-3:
        return set()
    length = math.hypot(x, y)
    across, down = x_clear / length, y_clear / length
    shares = {"left of": -across, "right of": across, "above": -down, "below": down}
    return {relation for relation, share in shares.items() if share > 0.5}


def _offset_and_sizes(one: Detection, other: Detection, axis: int) -> tuple[float, float]:
    """Offset of the centres and sum of the sizes along an axis."""
    low, high, other_low, other_high = (box[axis + i] for box in (one.box, other.box) for i in (0, 2))
    return (low + high) / 2 - (other_low + other_high) / 2, abs(high - low) + abs(other_high - other_low)


def _beyond_dead_zone(offset: float, sizes: float) -> float:
    return math.copysign(max(abs(offset) - _DEAD_ZONE * sizes, 0.0), offset)


@dataclass(frozen=True)
class Verdict:
    """Whether the image is correct, and why not, one line per fault."""

    correct: bool
    reason: str


def judge(metadata: Mapping[str, Any], objects: Objects) -> Verdict:
    """GenEval's decision about the objects that ``confident_objects`` kept.

    Every clause of ``include`` must hold: ``count`` objects of the class; the ``count`` most confident of them all in
    the colour; each of those at the position relative to each object of the named clause, which must itself hold.
    No clause of ``exclude`` may hold: ``count`` objects of the class or more.
    """
    faults: list[str] = []
    groups: list[Sequence[Detection] | None] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        found = objects.get(name, ())[:count]
        fault = None
        if len(found) < count:
            fault = f"expected {name}>={count}, found {len(found)}"
        elif "color" in clause:
            fault = _colour_fault(clause, [one.colour for one in found])
        if fault is None and "position" in clause:
            relation, target = clause["position"]
            fault = _position_fault(name, relation, found, groups[target])
        groups.append(found if fault is None else None)
        faults += [fault] if fault is not None else []
    for clause in metadata.get("exclude", ()):
        name, number = clause["class"], len(objects.get(clause["class"], ()))
        if number >= clause["count"]:
            faults.append(f"expected {name}<{clause['count']}, found {number}")
    return Verdict(not faults, "\n".join(faults))


def _colour_fault(clause: Mapping[str, Any], found: Sequence[str | None]) -> str | None:
    name, count, colour = clause["class"], clause["count"], clause["color"]
    if found.count(colour) >= count:
        return None
    others = ", ".join(f"{found.count(one)} {one}" for one in COLOURS if one in found)
    return f"expected {colour} {name}>={count}, found {found.count(colour)} {colour}; and {others}"


def _position_fault(
    name: str, relation: str, found: Sequence[Detection], targets: Sequence[Detection] | None
) -> str | None:
    if targets is None:
        return f"no target for {name} to be {relation}"
    for one in found:
        for target in targets:
            actual = positions(one, target)
            if relation not in actual:
                return f"expected {name} {relation} target, found {' and '.join(sorted(actual))} target"
    return None


def grade(metadata: Mapping[str, Any], objects: Objects) -> float:
    """Share of the required facts that hold, in [0, 1]; 1 exactly where ``judge`` finds the image correct.

    A clause of ``include`` has one fact for each object's presence, one for each object's colour, and one for the
    position of all of them; a clause of ``exclude`` has one. As in ``judge``, the most confident objects count.
    """
    facts = held = 0
    groups: list[Sequence[Detection]] = []
    counts: list[int] = []
    for clause in metadata["include"]:
        count = clause["count"]
        found = objects.get(clause["class"], ())[:count]
        facts, held = facts + count, held + len(found)
        if "color" in clause:
            facts += count
            held += sum(one.colour == clause["color"] for one in found)
        if "position" in clause:
            relation, target = clause["position"]
            facts += 1
            held += (
                len(found) == count
                and len(groups[target]) == counts[target]
                and all(relation in positions(one, other) for one in found for other in groups[target])
            )
        groups.append(found)
        counts.append(count)
    for clause in metadata.get("exclude", ()):
        facts += 1
        held += len(objects.get(clause["class"], ())) < clause["count"]
    return held / facts
