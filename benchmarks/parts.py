"""Pairs and similarity lost when a corpus is paired in parts, each a separate build.

    python benchmarks/parts.py --rows 16000 --dimensions 128 --parts 1 4 16

Uses the features of `python -m benchmarks pairing`, half of them for each corpus. Parts are cut at random, and by
similarity: k-means with as many clusters as parts. Each part has its share of K.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.pairing import clustered_features
from benchmarks.settings import SelectionSettings
from pairuni.pairug.selection.algorithm1 import JointSet, aligned_pairs, retrieved_pairs
from pairuni.pairug.selection.kmeans import fit_kmeans
from pairuni.records import Quadruple


def select(
    features: NDArray[np.float32], understanding: NDArray[np.bool_], clusters: int
) -> tuple[int, float]:
    """Retrieved pairs and their total similarity."""
    quadruples = [
        Quadruple(
            id=str(row),
            image_path=str(row),
            origin="understanding" if asks else "generation",
            prompt="p",
            question="q",
            answer="a",
        )
        for row, asks in enumerate(understanding)
    ]
    joint = JointSet.of(quadruples, features)
    fitted = fit_kmeans(features, clusters, seed=0)
    aligned = aligned_pairs(joint, fitted)
    found = retrieved_pairs(joint, aligned, fitted, threshold=0.6, max_matches=1, seed=0, matching="optimal")
    similarities = [match.similarity for match in found.matches]
    return len(similarities), float(np.sum(similarities))


def parts_of(features: NDArray[np.float32], count: int, cut: str) -> list[NDArray[np.int64]]:
    """Rows of each part."""
    if cut == "similar":
        labels = fit_kmeans(features, count, seed=0).labels
        return [np.flatnonzero(labels == part) for part in range(count)]
    return np.array_split(np.random.default_rng(0).permutation(len(features)), count)


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 4, 16])
    chosen = parser.parse_args(words)
    settings = SelectionSettings(
        understanding=chosen.rows // 2,
        generation=chosen.rows // 2,
        dimensions=chosen.dimensions,
        clusters=chosen.rows // 21,
    )
    features = clustered_features(settings)
    understanding = np.arange(chosen.rows) < settings.understanding
    for count in chosen.parts:
        for cut in ("random", "similar") if count > 1 else ("whole",):
            began = time.perf_counter()
            made = [
                select(features[rows], understanding[rows], max(1, len(rows) // 21))
                for rows in parts_of(features, count, cut)
            ]
            pairs, total = sum(part[0] for part in made), sum(part[1] for part in made)
            found = {
                "parts": count,
                "cut": cut,
                "pairs": pairs,
                "total_similarity": round(total, 1),
                "mean_similarity": round(total / max(1, pairs), 4),
                "seconds": round(time.perf_counter() - began, 2),
            }
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
