"""The paper's ablations of pairing (arXiv:2510.25682, table of pairings), made from a PairUG file."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pairuni.config import Pairing
from pairuni.console.counts import counted
from pairuni.pairug.dataset.store import QUADRUPLES, read_pairs, read_quadruples
from pairuni.records import Annotation, Origin, Quadruple, UGPair

logger = logging.getLogger("pairuni")

ORIGINS: tuple[Origin, Origin] = ("understanding", "generation")
WARN_ABOVE = 0.1
"""Share of excluded pairs above which there is a warning."""


def load_pairing(
    path: Path,
    pairing: Pairing,
    *,
    seed: int,
    budget: int | None = None,
    held_out: Sequence[UGPair] = (),
    held_out_folder: Path | None = None,
    sides: Collection[Origin] = ORIGINS,
    most_excluded: float = 1.0,
) -> list[UGPair]:
    """The pairs of a file, rearranged; quadruples.jsonl next to it is used if there is one.

    held_out: a pair is excluded when its question is about an image of a held-out question, or when its prompt is a
    held-out prompt; its other fields are not trained on. The number of excluded pairs is logged.
    held_out_folder: folder of the held-out image paths; None is the file's own. sides: the tasks that train.
    Raises ValueError when more than the share ``most_excluded`` of the pairs would be excluded.
    """
    samples = path.with_name(QUADRUPLES)
    quadruples = read_quadruples(samples) if samples.is_file() else None
    pairs = read_pairs(path)
    if held_out:
        held = _Held.of(held_out, (held_out_folder or path.parent).resolve(), sides)
        own, every = path.parent.resolve(), len(pairs)
        pairs = [
            pair
            for pair in pairs
            if held.free(pair.understand_ann, "understanding", own)
            and held.free(pair.generate_ann, "generation", own)
        ]
        if quadruples is not None:
            quadruples = [one for one in quadruples if _usable(one, pairing, held, own)]
        _report_excluded(path, every - len(pairs), every, len(held_out), most_excluded)
    return apply_pairing(pairs, pairing, seed=seed, budget=budget, quadruples=quadruples)


@dataclass(frozen=True)
class _Held:
    """Image paths (normalised, not resolved) and prompts that must not be trained on."""

    images: frozenset[str]
    prompts: frozenset[str]

    @classmethod
    def of(cls, pairs: Sequence[UGPair], folder: Path, sides: Collection[Origin]) -> _Held:
        images = set()
        if "understanding" in sides:
            images = {place for pair in pairs for place in _places(folder, pair.understand_ann)}
        prompts = {pair.generate_ann.prompt for pair in pairs} if "generation" in sides else set()
        return cls(frozenset(images), frozenset(prompts))

    def free(self, side: Annotation | Quadruple, role: Origin, folder: Path) -> bool:
        """Whether a side may train a task: its question about its image, or its prompt."""
        if role == "understanding":
            return self.images.isdisjoint(_places(folder, side))
        return side.prompt not in self.prompts


def _usable(one: Quadruple, pairing: Pairing, held: _Held, folder: Path) -> bool:
    """Whether a sample may train the tasks that the pairing gives it; a self-pair trains both."""
    roles = (one.origin,) if pairing == "unpaired" else ORIGINS
    return all(held.free(one, role, folder) for role in roles)


def _places(folder: Path, side: Annotation | Quadruple) -> list[str]:
    return [os.path.normpath(folder / path) for path in side.image_paths]


def _report_excluded(path: Path, excluded: int, every: int, held_out: int, most: float) -> None:
    if excluded == every:
        raise ValueError(
            f"{path}: holding out {counted(held_out, 'pair')} leaves none to train on; lower evaluation.items, "
            f"or name a file of held-out pairs in evaluation.pairs"
        )
    share = excluded / every
    message = f"{excluded:,} of {every:,} pairs are not trained on: their question's image or their prompt is held out"
    if share > most:
        raise ValueError(
            f"{path}: {message}. That is {share:.0%}, more than evaluation.most_excluded allows ({most:.0%}); lower "
            "evaluation.items, name a file of held-out pairs in evaluation.pairs, or raise the limit"
        )
    logger.log(logging.WARNING if share > WARN_ABOVE else logging.INFO, message)


def sample_held_out(path: Path, count: int, *, seed: int) -> list[UGPair]:
    """At most ``count`` pairs of a file, sampled by ``seed``; the same for every pairing."""
    return _sample(read_pairs(path), count, np.random.default_rng([seed, count]))


def apply_pairing(
    pairs: Sequence[UGPair],
    pairing: Pairing,
    *,
    seed: int,
    budget: int | None = None,
    quadruples: Sequence[Quadruple] | None = None,
) -> list[UGPair]:
    """``pairs`` rearranged; ``budget`` of them, sampled by ``seed``, in order. None keeps all.

    pairug: unchanged.
    aligned, retrieved: only these pairs.
    random: generation sides reassigned to the understanding sides, none to its own.
    unpaired: training without PairUG: understanding items and generation items sampled independently from the two
    corpora. A record has two sides, so it holds one item of each; they are unrelated, and advantages are computed
    per task.
    understanding-only, generation-only: self-pairs of samples of that corpus, sampled at random; those with several
    images are left out.

    random and unpaired pairs have similarity 1, hence weight 1 under every rule: the method measured no similarity
    for them, and a weight below 1 would add a lower learning rate to the comparison.
    The last three sample from ``quadruples``, all completed samples; without them, as with a released PairUG file,
    from the pairs' sides of that corpus. They make as many pairs as the file has, if possible.
    Raises ValueError when fewer than ``budget``, or none at all, can be made.
    """
    rng = np.random.default_rng([seed, len(pairs)])
    made = _arrange(list(pairs), pairing, rng, quadruples, budget)
    if not made and budget is None:
        raise ValueError(
            f"the pairing {pairing!r} makes 0 of {counted(len(pairs), 'pair')}: none is of its kind; set data.pairing "
            "to another one"
        )
    if len(made) < (budget or 0):
        raise ValueError(
            f"the pairing {pairing!r} makes {len(made)} of {len(pairs)} pairs, but the budget is {budget}; "
            f"lower it for every pairing that is compared"
        )
    return made


def least_similar(
    pairs: Sequence[UGPair], understanding: NDArray[np.float32], generation: NDArray[np.float32]
) -> list[UGPair]:
    """Generation sides reassigned to the understanding sides so that the sum of cosine similarities is the least.

    understanding, generation: [N, D] features of the images of the two sides, in any length. As with random, pairs have
    similarity 1, hence weight 1. Memory and time grow with N^2 and N^3: a second for 2,000 pairs.
    """
    cosines = _normalised(understanding) @ _normalised(generation).T
    rows, columns = linear_sum_assignment(cosines)
    logger.info(
        "low-similarity: the images of the %s have mean cosine %.3f, %.3f as the file pairs them",
        counted(len(pairs), "pair"),
        cosines[rows, columns].mean(),
        cosines.diagonal().mean(),
    )
    return [
        _unrelated(pairs[row], pairs[column].generate_ann) for row, column in zip(rows, columns, strict=True)
    ]


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _arrange(
    pairs: list[UGPair],
    pairing: Pairing,
    rng: np.random.Generator,
    quadruples: Sequence[Quadruple] | None,
    budget: int | None,
) -> list[UGPair]:
    if pairing == "pairug":
        return _sample(pairs, budget, rng)
    if pairing in ("aligned", "retrieved"):
        return _sample([pair for pair in pairs if pair.kind == pairing], budget, rng)
    if pairing == "random":
        kept = _sample(pairs, budget, rng)
        if len(kept) == 1:
            raise ValueError("the pairing 'random' needs two pairs or more: one alone keeps its own partner")
        order = rng.permutation(len(kept))
        partner = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        return [_unrelated(pair, kept[partner[row]].generate_ann) for row, pair in enumerate(kept)]
    count = budget or len(pairs)
    if pairing == "unpaired":
        understanding = _shuffled(_pool(pairs, quadruples, "understanding"), count, rng)
        generation = _shuffled(_pool(pairs, quadruples, "generation"), count, rng)
        return [
            UGPair(similarity=1.0, generate_ann=g, understand_ann=u)
            for u, g in zip(understanding, generation, strict=False)
        ]
    origin: Origin = "understanding" if pairing == "understanding-only" else "generation"
    sides = _shuffled(_of_one_image(_pool(pairs, quadruples, origin), pairing), count, rng)
    return [UGPair(similarity=1.0, generate_ann=side, understand_ann=side) for side in sides]


def _sample(pairs: list[UGPair], budget: int | None, rng: np.random.Generator) -> list[UGPair]:
    if budget is None or budget >= len(pairs):
        return pairs
    return [pairs[row] for row in np.sort(rng.permutation(len(pairs))[:budget])]


def _pool(pairs: list[UGPair], quadruples: Sequence[Quadruple] | None, origin: Origin) -> list[Annotation]:
    if quadruples is not None:
        return [quadruple.annotation() for quadruple in quadruples if quadruple.origin == origin]
    if origin == "understanding":
        return [pair.understand_ann for pair in pairs]
    return [pair.generate_ann for pair in pairs]


def _of_one_image(sides: list[Annotation], pairing: Pairing) -> list[Annotation]:
    """The sides that may be both halves of a pair."""
    kept = [side for side in sides if len(side.image_paths) == 1]
    if len(kept) < len(sides):
        logger.info(
            "%s: %s left out, whose questions show several images: their prompts generate nothing",
            pairing,
            counted(len(sides) - len(kept), "sample"),
        )
    return kept


def _shuffled(sides: list[Annotation], count: int, rng: np.random.Generator) -> list[Annotation]:
    return [sides[row] for row in rng.permutation(len(sides))[:count]]


def _unrelated(pair: UGPair, generate_ann: Annotation) -> UGPair:
    return UGPair(similarity=1.0, generate_ann=generate_ann, understand_ann=pair.understand_ann)
