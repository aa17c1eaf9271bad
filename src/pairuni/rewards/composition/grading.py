"""How much of what is asked an image shows, where GenEval's own decision is all or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairuni.rewards.composition.detection import Detection, Objects
from pairuni.rewards.composition.rules import positions


def grade(metadata: Mapping[str, Any], objects: Objects) -> float:
    """Share of the asked facts that hold, in [0, 1]; 1 exactly where ``rules.judge`` finds the image right.

    A clause of ``include`` asks a fact for each of its objects to be there, one more for each to have the colour, and
    one for the position of all of them; a clause of ``exclude`` asks one fact. As in ``judge``, the most confident
    objects of a class are looked at.
    """
    facts = held = 0
    groups: list[Sequence[Detection]] = []
    wanted: list[int] = []
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
                and len(groups[target]) == wanted[target]
                and all(relation in positions(one, other) for one in found for other in groups[target])
            )
        groups.append(found)
        wanted.append(count)
    for clause in metadata.get("exclude", ()):
        facts += 1
        held += len(objects.get(clause["class"], ())) < clause["count"]
    return held / facts
