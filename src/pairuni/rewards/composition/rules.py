"""GenEval (arXiv:2310.11513): does an image show what was asked? Decided on detections, by the official rules.

Here are the rules; who detects objects and names colours is for others to choose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pairuni.rewards.composition.detection import Detection, Objects

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
MAX_OBJECTS = 16
"""Of one class, only so many are kept, the most confident ones."""
THRESHOLD, COUNTING_THRESHOLD = 0.3, 0.9
"""Confidence that an object must exceed, in general and where objects are counted."""
_DEAD_ZONE = 0.1
"""An offset below this share of both objects' sizes says nothing about where one lies of the other."""


@dataclass(frozen=True)
class Verdict:
    """Whether the image is right, and what is wrong with it, a line a fault."""

    correct: bool
    reason: str


def kept(
    objects: Objects,
    tag: str,
    *,
    threshold: float = THRESHOLD,
    counting_threshold: float = COUNTING_THRESHOLD,
) -> dict[str, list[Detection]]:
    """Each class's objects that count, the most confident first; the tag "counting" asks for more confidence."""
    least = counting_threshold if tag == "counting" else threshold
    sure = {
        name: sorted((one for one in found if one.confidence > least), key=lambda one: -one.confidence)
        for name, found in objects.items()
    }
    return {name: found[:MAX_OBJECTS] for name, found in sure.items() if found}


def positions(one: Detection, other: Detection) -> set[str]:
    """Where ``one`` lies of ``other``: of left of, right of, above, below none, one or two.

    The offset of the centres, less a tenth of both sizes in each direction, must be more than half of the whole
    offset's length.
    """
    (x, width), (y, height) = _spread(one, other, 0), _spread(one, other, 1)
    x_clear, y_clear = _clear(x, width), _clear(y, height)
    if abs(x_clear) < 1e-3 and abs(y_clear) < 1e-3:
        return set()
    length = math.hypot(x, y)
    across, down = x_clear / length, y_clear / length
    shown = {"left of": -across, "right of": across, "above": -down, "below": down}
    return {relation for relation, share in shown.items() if share > 0.5}


def judge(metadata: Mapping[str, Any], objects: Objects) -> Verdict:
    """Whether the objects that ``kept`` left are what a prompt's metadata asks for.

    Every clause of ``include`` must hold: so many objects of the class; the most confident of them all in the
    colour; each of those at the position to each object of the clause that it names, which must itself hold. No
    clause of ``exclude`` may: so many objects of the class or more. Objects whose colour is asked for have it named.
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


def _colour_fault(clause: Mapping[str, Any], seen: Sequence[str | None]) -> str | None:
    name, count, colour = clause["class"], clause["count"], clause["color"]
    if seen.count(colour) >= count:
        return None
    others = ", ".join(f"{seen.count(one)} {one}" for one in COLOURS if one in seen)
    return f"expected {colour} {name}>={count}, found {seen.count(colour)} {colour}; and {others}"


def _position_fault(
    name: str, relation: str, found: Sequence[Detection], targets: Sequence[Detection] | None
) -> str | None:
    if targets is None:
        return f"no target for {name} to be {relation}"
    for one in found:
        for target in targets:
            seen = positions(one, target)
            if relation not in seen:
                return f"expected {name} {relation} target, found {' and '.join(sorted(seen))} target"
    return None


def _spread(one: Detection, other: Detection, axis: int) -> tuple[float, float]:
    """Offset of the centres and sum of the sizes along an axis."""
    low, high, other_low, other_high = (box[axis + i] for box in (one.box, other.box) for i in (0, 2))
    return (low + high) / 2 - (other_low + other_high) / 2, abs(high - low) + abs(other_high - other_low)


def _clear(offset: float, sizes: float) -> float:
    return math.copysign(max(abs(offset) - _DEAD_ZONE * sizes, 0.0), offset)
