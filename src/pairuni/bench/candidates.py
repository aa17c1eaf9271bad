"""`pairuni bench candidates`: the search for near pairs, all with all and by clusters, on clustered features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pairuni.bench.memory import resident
from pairuni.bench.pairing import Settings, clustered_features
from pairuni.bench.timing import interleaved
from pairuni.pairug.candidates import Candidates, Cells, find_candidates
from pairuni.pairug.kmeans import fit_kmeans, resolve_device

OURS = "pairuni"
ADDS = {
    "all": "every cosine, in blocks of matrix products",
    OURS: "those of near clusters, as many as a sample asks for",
}
"""What each contender is."""


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds, cosines computed and recall of both ways, which take turns; clustering is not counted.

    recall: share of the edges of all with all that were found.
    """
    features = clustered_features(settings)
    fitted = fit_kmeans(features, settings.clusters, settings.seed)
    understanding, generation = features[: settings.understanding], features[settings.understanding :]
    cells = Cells(
        fitted.centres, fitted.labels[settings.understanding :], fitted.labels[: settings.understanding]
    )
    device = resolve_device("auto")
    found: dict[str, Candidates] = {}

    def search(name: str, near: Cells | None) -> Callable[[int], None]:
        def once(turn: int) -> None:
            found[name] = find_candidates(
                generation,
                understanding,
                settings.threshold,
                settings.candidates,
                cells=near,
                seed=turn,
                device=device,
            )

        return once

    start, _ = resident()
    timings = interleaved(
        {"all": search("all", None), OURS: search(OURS, cells)},
        repeats=settings.repeats,
        device=torch.device(device),
        title="candidates",
    )
    true = _edges(found["all"], settings)
    rows = {
        name: {
            **timing.to_dict(),
            "cosines_share": found[name].comparisons / (settings.understanding * settings.generation),
            "recall": len(true & _edges(found[name], settings)) / max(1, len(true)),
            "estimated_recall": found[name].recall,
            "edges": len(found[name].similarity),
            "start_bytes": start,
            "peak_bytes": resident()[1],
        }
        for name, timing in timings.items()
    }
    return {"contenders": rows}


def _edges(found: Candidates, settings: Settings) -> set[int]:
    return set((found.generation * settings.understanding + found.understanding).tolist())
