"""The counts of a PairUG file beside those that the paper states for PairUG-16k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.paper import pair_counts
from pairuni.records import UGPair

_WIDTH = 40
"""Characters of the longest bar of the histogram."""
_ROW = "{:<32}{:>12}{:>12}"


def counts_beside_paper(pairs: Sequence[UGPair]) -> str:
    """A table as text: pairs, origins, classes, and the histogram of the retrieved pairs' similarities.

    Classes are tags, without regard to case: of aligned pairs those of the sample, of retrieved pairs those of the
    generation side. Classes that the paper does not name have no figure.
    """
    paper, found = pair_counts(), pair_statistics(pairs)
    kinds, origins = found["kinds"], found["aligned_origins"]
    rows = [
        ("pairs", len(pairs), paper.pairs),
        ("aligned", kinds.get("aligned", 0), paper.aligned),
        *((f"  from {name}", origins.get(name, 0), count) for name, count in paper.origins.items()),
        ("retrieved", kinds.get("retrieved", 0), paper.retrieved),
    ]
    aligned = Counter(pair.understand_ann.tag for pair in pairs if pair.kind == "aligned")
    retrieved = Counter(pair.generate_ann.tag for pair in pairs if pair.kind == "retrieved")
    lines = [_ROW.format("", "this file", "the paper"), *(_row(*row) for row in rows)]
    lines += ["", "classes of aligned pairs", *_classes(aligned, paper.aligned_classes)]
    lines += ["", "classes of retrieved pairs", *_classes(retrieved, paper.retrieved_classes)]
    if retrieved:
        low, high = paper.most_similarities
        similarities = np.array([pair.similarity for pair in pairs if pair.kind == "retrieved"])
        share = float(((similarities >= low) & (similarities <= high)).mean())
        lines += ["", "similarities of retrieved pairs", *_bars(found["retrieved_similarity"])]
        lines += [f"{low:g} to {high:g}: {share:.0%} of them; the paper: one peak, and most of them"]
    return "\n".join(lines)


def _classes(own: Mapping[str, int], paper: Mapping[str, int]) -> Iterable[str]:
    counts = {name.casefold(): count for name, count in own.items()}
    for name, count in paper.items():
        yield _row(f"  {name}", counts.pop(name.casefold(), 0), count)
    named = {name.casefold() for name in paper}
    for name, count in sorted(own.items(), key=lambda one: -one[1]):
        if name.casefold() not in named:
            yield _row(f"  {name or '(no tag)'}", count, None)


def _bars(similarity: Mapping[str, Sequence[float]]) -> Iterable[str]:
    histogram, edges = similarity["histogram"], similarity["edges"]
    filled = [number for number, count in enumerate(histogram) if count]
    for number in range(filled[0], filled[-1] + 1):
        count = int(histogram[number])
        bar = "#" * round(_WIDTH * count / max(histogram))
        yield f"  {edges[number]:.2f} to {edges[number + 1]:.2f}{count:>12,}  {bar}".rstrip()


def _row(name: str, own: int, paper: int | None) -> str:
    return _ROW.format(name, f"{own:,}", "" if paper is None else f"{paper:,}").rstrip()
