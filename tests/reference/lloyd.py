"""Lloyd's k-means as one would write it down, in float64, to hold the fast one against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def lloyd(
    rows: NDArray[np.float64], labels: NDArray[np.int64], clusters: int, iterations: int
) -> NDArray[np.int64]:
    """Labels after so many rounds of means and nearest means, from labels that leave no cluster empty."""
    for _ in range(iterations):
        means = np.stack([rows[labels == cluster].mean(axis=0) for cluster in range(clusters)])
        labels = ((rows[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    return labels


def inertia(rows: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Sum of squared distances of the rows to the means of their labels."""
    return sum(
        float(((rows[labels == one] - rows[labels == one].mean(axis=0)) ** 2).sum())
        for one in np.unique(labels)
    )
