"""Statistics of a PairUG file."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pairuni.records import Annotation, UGPair

BINS = 20
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def pair_statistics(pairs: Sequence[UGPair]) -> dict[str, Any]:
    """Counts by kind, tag, origin and images of the question; distinct images; similarities; letters of
    multiple-choice answers.

    images_a_question: number of images -> pairs whose question shows so many.
    aligned_origins: corpus of each aligned pair's sample ("unknown" if the file does not say).
    retrieved_similarity: quantiles by name (empty without retrieved pairs) and a histogram over [0, 1].
    answer_letters: per side, for questions with lettered options.
    """
    kinds: Counter[str] = Counter()
    corpora: Counter[str] = Counter()
    tags: dict[str, Counter[str]] = {"generation": Counter(), "understanding": Counter()}
    letters: dict[str, Counter[str]] = {name: Counter() for name in tags}
    images: set[str] = set()
    shown: Counter[int] = Counter()
    similarities = array("d")
    for pair in pairs:
        kinds[pair.kind] += 1
        shown[len(pair.understand_ann.image_paths)] += 1
        if pair.kind == "aligned":
            corpora[str((pair.understand_ann.model_extra or {}).get("origin", "unknown"))] += 1
        else:
            similarities.append(pair.similarity)
        for name, side in (("generation", pair.generate_ann), ("understanding", pair.understand_ann)):
            tags[name][side.tag] += 1
            images.update(side.image_paths)
            if _is_multiple_choice(side):
                letters[name][side.answer] += 1
    retrieved = np.array(similarities)
    histogram, edges = np.histogram(retrieved, bins=BINS, range=(0.0, 1.0))
    quantiles = np.quantile(retrieved, QUANTILES) if len(retrieved) else []
    return {
        "pairs": len(pairs),
        "kinds": dict(kinds.most_common()),
        "aligned_origins": dict(corpora.most_common()),
        "tags": {name: dict(counted.most_common()) for name, counted in tags.items()},
        "distinct_images": len(images),
        "images_a_question": {str(count): pairs for count, pairs in sorted(shown.items())},
        "retrieved_similarity": {
            "quantiles": {f"{q:g}": round(float(v), 4) for q, v in zip(QUANTILES, quantiles, strict=False)},
            "mean": round(float(retrieved.mean()), 4) if len(retrieved) else None,
            "histogram": histogram.tolist(),
            "edges": [round(float(edge), 2) for edge in edges],
        },
        "answer_letters": {name: dict(sorted(counted.items())) for name, counted in letters.items()},
    }


def _is_multiple_choice(side: Annotation) -> bool:
    lettered = re.fullmatch(r"[A-Z]", side.answer) is not None
    return lettered and all(re.search(rf"\b{letter}[.):]", side.question) for letter in "AB")
