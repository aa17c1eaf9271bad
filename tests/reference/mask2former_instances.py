"""Instances of a Mask2Former as mmdetection 2 makes them (MaskFormerFusionHead, bbox2result), pixel by pixel."""

from __future__ import annotations

import math

import numpy as np


def bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """[h, w] -> [height, width]: pixel centres on pixel centres, edges repeated, no antialias."""
    h, w = grid.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            u = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = math.floor(v), math.floor(u)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = v - top, u - left
            out[y, x] = (1 - a) * ((1 - b) * grid[top, left] + b * grid[top, right]) + a * (
                (1 - b) * grid[bottom, left] + b * grid[bottom, right]
            )
    return out


def instances(
    class_logits: np.ndarray,
    mask_logits: np.ndarray,
    padded: tuple[int, int],
    resized: tuple[int, int],
    size: tuple[int, int],
    most: int = 100,
) -> list[tuple[int, float, tuple[int, int, int, int], np.ndarray]]:
    """(label, score, box, mask) of the ``most`` likeliest (query, class), whatever their score."""
    entries = []
    for query, logits in enumerate(class_logits.astype(np.float64)):
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        entries += [(share, query, label) for label, share in enumerate(shares[:-1])]
    entries.sort(key=lambda entry: -entry[0])
    found = []
    for share, query, label in entries[:most]:
        whole = bilinear(mask_logits[query].astype(np.float64), *padded)
        own = bilinear(whole[: resized[0], : resized[1]], *size)
        mask = own > 0
        inside = [1 / (1 + math.exp(-value)) for value in own[mask]]
        score = share * sum(inside) / (len(inside) + 1e-6)
        rows, columns = np.nonzero(mask)
        box = (0, 0, 0, 0)
        if len(rows):
            box = (
                int(columns.min()),
                int(rows.min()),
                int(columns.max()) + 1,
                int(rows.max()) + 1,
            )
        found.append((label, score, box, mask))
    return found
