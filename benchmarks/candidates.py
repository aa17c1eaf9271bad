"""`python -m benchmarks candidates`: nearest-neighbour search on clustered features, exhaustive and by clusters."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.hardware import resident
from benchmarks.pairing import clustered_features
from benchmarks.settings import SelectionSettings
from benchmarks.timing import interleaved
from pairuni.devices import resolve_device
from pairuni.pairug.selection.candidates import Candidates, Cells, find_candidates
from pairuni.pairug.selection.kmeans import fit_kmeans

OURS = "pairuni"
ADDS = {
    "all": "every cosine, in blocks of matrix products",
    "faiss": "faiss's IVF-flat index over the same centres, as many lists as recall 0.99 takes",
    OURS: "those of near clusters, as many as a sample requires",
}
"""Descriptions of the contenders."""


def measure(settings: SelectionSettings) -> dict[str, Any]:
    """Seconds, computed cosines and recall of each search, which take turns; clustering is not counted.

    recall: share of the edges of the exhaustive search that were found.
    """
    features = clustered_features(settings)
    fitted = fit_kmeans(features, settings.k, settings.seed)
    understanding, generation = features[: settings.understanding], features[settings.understanding :]
    cells = Cells(
        fitted.centres, fitted.labels[settings.understanding :], fitted.labels[: settings.understanding]
    )
    device = str(resolve_device("auto"))
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

    def by_faiss(turn: int) -> None:
        found["faiss"] = _faiss(generation, understanding, cells, lists, settings)

    start, _ = resident()
    contenders = {"all": search("all", None), OURS: search(OURS, cells)}
    if importlib.util.find_spec("faiss") is not None:
        lists = _lists_needed(generation, understanding, cells, settings)
        contenders = {"all": contenders["all"], "faiss": by_faiss, OURS: contenders[OURS]}
    timings = interleaved(
        contenders,
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
            **({} if name == "faiss" else {"estimated_recall": found[name].recall}),
            "edges": len(found[name].similarity),
            "start_bytes": start,
            "peak_bytes": resident()[1],
        }
        for name, timing in timings.items()
    }
    return {"contenders": rows}


def _edges(found: Candidates, settings: SelectionSettings) -> set[int]:
    return set((found.generation * settings.understanding + found.understanding).tolist())


def _faiss(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    cells: Cells,
    lists: int,
    settings: SelectionSettings,
) -> Candidates:
    """The same edges by faiss, building its index included; ``lists`` of the inverted file are searched."""
    import faiss

    centres = np.ascontiguousarray(cells.centres / np.linalg.norm(cells.centres, axis=1, keepdims=True))
    quantizer: Any = faiss.IndexFlatIP(centres.shape[1])
    quantizer.add(centres)
    index: Any = faiss.IndexIVFFlat(quantizer, centres.shape[1], len(centres), faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    index.add(understanding)
    index.nprobe = lists
    cosines, columns = index.search(generation, settings.candidates)
    rows, places = np.nonzero((cosines >= settings.threshold) & (columns >= 0))
    compared = len(centres) * (len(understanding) + len(generation))
    compared += len(generation) * len(understanding) * lists // len(centres)
    full = (columns[:, -1] >= 0) & (cosines[:, -1] >= settings.threshold)
    return Candidates(rows, columns[rows, places], cosines[rows, places], full, 1.0, compared)


def _lists_needed(
    generation: NDArray[np.float32],
    understanding: NDArray[np.float32],
    cells: Cells,
    settings: SelectionSettings,
) -> int:
    """Lists, doubled from 1, that faiss must search for 0.99 of the true edges of a sample of G."""
    sample = generation[:: max(1, len(generation) // 512)]
    true = _edges(find_candidates(sample, understanding, settings.threshold, settings.candidates), settings)
    lists = 1
    while lists < len(cells.centres):
        found = _edges(_faiss(sample, understanding, cells, lists, settings), settings)
        if len(found & true) >= 0.99 * len(true):
            break
        lists *= 2
    return lists
