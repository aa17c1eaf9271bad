"""What a PairUG file holds, in numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pairuni.records import Annotation, UGPair

BINS = 20
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def pair_statistics(pairs: Sequence[UGPair]) -> dict[str, Any]:
    """Counts by kind, tag and origin, distinct images, similarities, letters of multiple-choice answers.

    aligned_origins: corpus that each aligned pair's sample came from ("unknown" where the file does not say).
    retrieved_similarity: quantiles by name (empty without retrieved pairs) and a histogram over [0, 1].
    answer_letters: per side, of questions that list lettered options.
    """
    sides = {
        "generation": [pair.generate_ann for pair in pairs],
        "understanding": [pair.understand_ann for pair in pairs],
    }
    aligned = [pair.understand_ann for pair in pairs if pair.kind == "aligned"]
    retrieved = np.array([pair.similarity for pair in pairs if pair.kind == "retrieved"])
    histogram, edges = np.histogram(retrieved, bins=BINS, range=(0.0, 1.0))
    quantiles = np.quantile(retrieved, QUANTILES) if len(retrieved) else []
    return {
        "pairs": len(pairs),
        "kinds": _counted(pair.kind for pair in pairs),
        "aligned_origins": _counted((side.model_extra or {}).get("origin", "unknown") for side in aligned),
        "tags": {name: _counted(side.tag for side in both) for name, both in sides.items()},
        "distinct_images": len({side.image_path for both in sides.values() for side in both}),
        "retrieved_similarity": {
            "quantiles": {f"{q:g}": round(float(v), 4) for q, v in zip(QUANTILES, quantiles, strict=False)},
            "mean": round(float(retrieved.mean()), 4) if len(retrieved) else None,
            "histogram": histogram.tolist(),
            "edges": [round(float(edge), 2) for edge in edges],
        },
        "answer_letters": {name: _letters(both) for name, both in sides.items()},
    }


def _letters(sides: Iterable[Annotation]) -> dict[str, int]:
    counted = Counter(side.answer for side in sides if _is_multiple_choice(side))
    return dict(sorted(counted.items()))


def _is_multiple_choice(side: Annotation) -> bool:
    lettered = re.fullmatch(r"[A-Z]", side.answer) is not None
    return lettered and all(re.search(rf"\b{letter}[.):]", side.question) for letter in "AB")


def _counted(values: Iterable[Any]) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}
