"""The paper's ablations of pairing, made from a PairUG file: same sides, same budget, other company."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairuni.config import Pairing
from pairuni.records import Annotation, UGPair


def apply_pairing(
    pairs: Sequence[UGPair], pairing: Pairing, *, seed: int, budget: int | None = None
) -> list[UGPair]:
    """``pairs`` rearranged; at most ``budget`` of them, drawn by ``seed`` and kept in order.

    pairug: as they are. aligned, retrieved: those alone. random: generation sides dealt anew to understanding
    sides within the file; similarity 1, for the method has nothing to weight by. unpaired: both sides dealt
    anew, so that neither keeps its place in the file and a step mixes unrelated items; similarity 1.
    understanding-only, generation-only: each pair's side from that corpus stands on both sides, an aligned
    pair of its own. Raises ValueError when nothing is left.
    """
    rng = np.random.default_rng([seed, len(pairs)])
    chosen = _arranged(list(pairs), pairing, rng)
    if not chosen:
        raise ValueError(f"the pairing {pairing!r} leaves none of the {len(pairs)} pairs")
    if budget is not None and budget < len(chosen):
        kept = np.sort(rng.permutation(len(chosen))[:budget])
        chosen = [chosen[row] for row in kept]
    return chosen


def _arranged(pairs: list[UGPair], pairing: Pairing, rng: np.random.Generator) -> list[UGPair]:
    if pairing == "pairug":
        return pairs
    if pairing in ("aligned", "retrieved"):
        return [pair for pair in pairs if pair.kind == pairing]
    if pairing == "understanding-only":
        return [_aligned(pair.understand_ann) for pair in pairs]
    if pairing == "generation-only":
        return [_aligned(pair.generate_ann) for pair in pairs]
    generation = [pairs[row].generate_ann for row in rng.permutation(len(pairs))]
    rows = range(len(pairs)) if pairing == "random" else rng.permutation(len(pairs))
    understanding = [pairs[row].understand_ann for row in rows]
    return [
        UGPair(similarity=1.0, generate_ann=drawn, understand_ann=asked)
        for drawn, asked in zip(generation, understanding, strict=True)
    ]


def _aligned(side: Annotation) -> UGPair:
    return UGPair(similarity=1.0, generate_ann=side, understand_ann=side)
