"""The three matchings on one set: pairs made, total similarity, use of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from pairuni.config import Matching
from pairuni.pairug.selection.candidates import Cells
from pairuni.pairug.selection.matching import Match, match
from pairuni.records import Quadruple, UGPair


def compare_matchings(
    quadruples: Sequence[Quadruple],
    features: NDArray[np.float32],
    pairs: Sequence[UGPair],
    *,
    threshold: float,
    max_matches: int,
    candidates: int,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """name of the matching -> its numbers, on what the medoids among ``pairs`` leave of both corpora.

    quadruples, features [N, D]: as of ``select_pairs``, which made ``pairs`` of them.
    """
    names = [quadruple.image_path for quadruple in quadruples]
    medoids = {pair.generate_ann.image_path for pair in pairs if pair.generate_ann == pair.understand_ann}
    rows = {
        origin: [
            row for row, one in enumerate(quadruples) if one.origin == origin and names[row] not in medoids
        ]
        for origin in ("generation", "understanding")
    }
    g_rows, u_rows = rows["generation"], rows["understanding"]
    g_names, u_names = [names[row] for row in g_rows], [names[row] for row in u_rows]
    anchors = features[[row for row, name in enumerate(names) if name in medoids]]
    cells = Cells.around(anchors, features[g_rows], features[u_rows])
    made = {}
    for how in get_args(Matching):
        matches = match(
            features[g_rows],
            features[u_rows],
            threshold,
            max_matches,
            g_names,
            u_names,
            how=how,
            candidates=candidates,
            cells=cells,
            seed=seed,
        )
        made[how] = matching_numbers(matches, g_names, u_names)
    return made


def matching_numbers(
    matches: Sequence[Match], g_names: Sequence[str], u_names: Sequence[str]
) -> dict[str, Any]:
    """pairs, total and mean similarity (None without pairs), and the share of either set's images in a pair.

    g_names, u_names: the image of every row that could be matched.
    """
    total = sum(one.similarity for one in matches)
    drawn = {g_names[one.generation] for one in matches}
    asked = {u_names[one.understanding] for one in matches}
    return {
        "pairs": len(matches),
        "total_similarity": round(total, 4),
        "mean_similarity": round(total / len(matches), 4) if matches else None,
        "generation_used": round(len(drawn) / max(1, len(set(g_names))), 4),
        "understanding_used": round(len(asked) / max(1, len(set(u_names))), 4),
    }
