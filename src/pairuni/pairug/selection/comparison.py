"""The three matchings compared on one set: pairs, total similarity, use of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pairuni.config import Matching
from pairuni.pairug.selection.algorithm1 import JointSet
from pairuni.pairug.selection.candidates import Cells
from pairuni.pairug.selection.matching import Match, match


def compare_matchings(
    joint: JointSet,
    aligned: Sequence[Match],
    *,
    threshold: float,
    max_matches: int,
    candidates: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Name of the matching -> its numbers, on what the aligned pairs leave of both corpora."""
    g_rows, u_rows = joint.without(aligned)
    generation, understanding = joint.features[g_rows], joint.features[u_rows]
    g_names, u_names = joint.names_of(g_rows), joint.names_of(u_rows)
    chosen = {joint.names[pair.generation] for pair in aligned}
    anchors = joint.features[[row for row, name in enumerate(joint.names) if name in chosen]]
    cells = Cells.around(anchors, generation, understanding)
    made = {}
    for how in get_args(Matching):
        found = match(
            generation,
            understanding,
            threshold,
            max_matches,
            g_names,
            u_names,
            how=how,
            candidates=candidates,
            cells=cells,
            seed=seed,
        )
        made[how] = matching_numbers(found.matches, g_names, u_names)
    return made


def matching_numbers(
    matches: Sequence[Match], g_names: Sequence[str], u_names: Sequence[str]
) -> dict[str, Any]:
    """Number of pairs, total and mean similarity (None without pairs), share of each set's images that are used.

    g_names, u_names: image names of all rows that could be matched.
    """
    total = sum(one.similarity for one in matches)
    g_used = {g_names[one.generation] for one in matches}
    u_used = {u_names[one.understanding] for one in matches}
    return {
        "pairs": len(matches),
        "total_similarity": round(total, 4),
        "mean_similarity": round(total / len(matches), 4) if matches else None,
        "generation_used": round(len(g_used) / max(1, len(set(g_names))), 4),
        "understanding_used": round(len(u_used) / max(1, len(set(u_names))), 4),
    }
