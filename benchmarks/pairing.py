"""`python -m benchmarks pairing`: pair selection on clustered features, ours against scikit-learn and Algorithm 1.

Every repeat runs in a separate process, which has its own peak memory; contenders take turns.
``python -m benchmarks.pairing CONTENDER SETTINGS`` prints the JSON object of one.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.child import alternate_modules
from benchmarks.hardware import resident
from benchmarks.settings import SelectionSettings
from benchmarks.timing import Timing
from pairuni.config import Clustering, Matching
from pairuni.pairug.selection.candidates import Cells
from pairuni.pairug.selection.clustering import fit_clusters, medoids_of
from pairuni.pairug.selection.comparison import matching_numbers
from pairuni.pairug.selection.features import l2_normalise
from pairuni.pairug.selection.matching import match

OURS = "pairuni"
CONTENDERS: dict[str, tuple[Clustering, Matching]] = {
    "reference": ("reference", "sequential"),
    "torch": ("torch", "sequential"),
    "greedy": ("torch", "greedy"),
    OURS: ("torch", "optimal"),
}
ADDS = {
    "reference": "the paper's algorithm: scikit-learn's MiniBatchKMeans, then exact cosines in file order",
    "torch": "Lloyd's iterations on torch",
    "greedy": "candidates from near clusters, best pairs first",
    OURS: "the largest total similarity among the candidates",
}
"""Descriptions of the contenders."""
STAGES = ("clustering_seconds", "retrieval_seconds")


def clustered_features(settings: SelectionSettings) -> NDArray[np.float32]:
    """U, then G: rows around K centres that are grouped in tens, with noise of varying strength."""
    rng = np.random.default_rng(settings.seed)
    rows, width = settings.understanding + settings.generation, settings.dimensions
    tens = rng.standard_normal((settings.k // 10 + 1, width), dtype=np.float32)
    centres = rng.standard_normal((settings.k, width), dtype=np.float32)
    centres += tens[np.arange(settings.k) // 10]
    features = np.empty((rows, width), np.float32)
    for start in range(0, rows, 4096):
        part = features[start : start + 4096]
        noise = rng.uniform(0.3, 1.6, (len(part), 1)).astype(np.float32)
        part[:] = centres[rng.integers(0, settings.k, len(part))]
        part += noise * rng.standard_normal(part.shape, dtype=np.float32)
        part[:] = l2_normalise(part)
    return features


def select(name: str, settings: SelectionSettings) -> dict[str, Any]:
    """Run one contender once: seconds by stage, pairs, total similarity, memory."""
    features = clustered_features(settings)
    start, _ = resident()
    began = time.perf_counter()
    clustering, matching = CONTENDERS[name]
    fitted = fit_clusters(features, settings.k, settings.seed, clustering)
    medoids = medoids_of(features, fitted)
    clustered = time.perf_counter()
    left = np.setdiff1d(np.arange(len(features)), medoids)
    u_rows, g_rows = left[left < settings.understanding], left[left >= settings.understanding]
    generation, understanding = features[g_rows], features[u_rows]
    retrieved = match(
        generation,
        understanding,
        settings.threshold,
        1,
        how=matching,
        candidates=settings.candidates,
        cells=Cells(fitted.centres, fitted.labels[g_rows], fitted.labels[u_rows]),
        seed=settings.seed,
    )
    ended = time.perf_counter()
    g_names, u_names = (
        [f"{side}{row}" for row in range(len(rows))]
        for side, rows in (("g", generation), ("u", understanding))
    )
    return {
        "clustering_seconds": clustered - began,
        "retrieval_seconds": ended - clustered,
        "medoids": len(medoids),
        "inertia": float(fitted.inertia),
        **matching_numbers(retrieved.matches, g_names, u_names),
        "start_bytes": start,
        "peak_bytes": resident()[1],
    }


def measure(settings: SelectionSettings) -> dict[str, Any]:
    """Medians of the contenders, which take turns, and ratios of ours to the reference."""
    made = alternate_modules(
        "benchmarks.pairing",
        CONTENDERS,
        settings.model_dump_json(),
        settings.repeats,
        lambda run: sum(run[stage] for stage in STAGES),
    )
    rows = {}
    for name, runs in made.items():
        timing = Timing(seconds=[sum(run[stage] for stage in STAGES) for run in runs])
        stages = {stage: statistics.median(run[stage] for run in runs) for stage in STAGES}
        peaks = {key: max(run[key] for run in runs) for key in ("start_bytes", "peak_bytes")}
        rows[name] = {**runs[0], **timing.to_dict(), **stages, **peaks}
    ours, reference = rows[OURS], rows["reference"]
    return {
        "contenders": rows,
        "times_faster": {key: reference[key] / ours[key] for key in ("seconds", *STAGES)},
        "inertia_ratio": ours["inertia"] / reference["inertia"],
        "total_similarity_ratio": ours["total_similarity"] / reference["total_similarity"],
    }


if __name__ == "__main__":
    print(json.dumps(select(sys.argv[1], SelectionSettings.model_validate_json(sys.argv[2]))))
