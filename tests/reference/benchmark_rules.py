"""The official rules of POPE and GenEval, step by step as their authors' scripts take them."""

from __future__ import annotations

from typing import Any

import numpy as np


def pope(labels: list[str], answers: list[str]) -> dict[str, float]:
    """One split's scores from its labels and a model's answers; divides by zero where the script does."""
    predicted = []
    for text in answers:
        if text.find(".") != -1:
            text = text.split(".")[0]
        text = text.replace(",", "")
        words = text.split(" ")
        if "No" in words or "not" in words or "no" in words:
            predicted.append(0)
        else:
            predicted.append(1)
    true = [0 if label == "no" else 1 for label in labels]
    tp = fp = tn = fn = 0
    for said, is_so in zip(predicted, true, strict=True):
        if said == 1 and is_so == 1:
            tp += 1
        elif said == 1 and is_so == 0:
            fp += 1
        elif said == 0 and is_so == 0:
            tn += 1
        else:
            fn += 1
    precision = tp / (tp + fp)
    recall = tp / (tp + fn)
    return {
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "precision": precision,
        "recall": recall,
        "F1": 2 * precision * recall / (precision + recall),
        "yes-rate": predicted.count(1) / len(predicted),
    }


def geneval_kept(boxes: np.ndarray, tag: str) -> list[int]:
    """[N, 5] boxes and scores of one class -> rows kept, in order (scores all different)."""
    threshold = 0.9 if tag == "counting" else 0.3
    order = list(np.argsort(boxes[:, 4])[::-1])
    order = [row for row in order if boxes[row, 4] > threshold]
    return order[:16]


def geneval_position(a: np.ndarray, b: np.ndarray) -> set[str]:
    """Position of box a relative to box b."""
    centre_a = np.array([(a[0] + a[2]) / 2, (a[1] + a[3]) / 2])
    centre_b = np.array([(b[0] + b[2]) / 2, (b[1] + b[3]) / 2])
    size_a = np.array([abs(a[2] - a[0]), abs(a[3] - a[1])])
    size_b = np.array([abs(b[2] - b[0]), abs(b[3] - b[1])])
    offset = centre_a - centre_b
    revised = np.maximum(np.abs(offset) - 0.1 * (size_a + size_b), 0) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return set()
    dx, dy = revised / np.linalg.norm(offset)
    found = set()
    if dx < -0.5:
        found.add("left of")
    if dx > 0.5:
        found.add("right of")
    if dy < -0.5:
        found.add("above")
    if dy > 0.5:
        found.add("below")
    return found


def geneval_correct(metadata: dict[str, Any], objects: dict[str, list[tuple[np.ndarray, str]]]) -> bool:
    """The decision on (box, colour) of each class, the most confident first, already cut by ``geneval_kept``."""
    correct = True
    matched_groups: list[list[tuple[np.ndarray, str]] | None] = []
    for wanted in metadata.get("include", []):
        matched = True
        found = objects.get(wanted["class"], [])[: wanted["count"]]
        if len(found) < wanted["count"]:
            correct = matched = False
        else:
            if "color" in wanted:
                colours = [colour for _, colour in found]
                if colours.count(wanted["color"]) < wanted["count"]:
                    correct = matched = False
            if "position" in wanted and matched:
                relation, group = wanted["position"]
                targets = matched_groups[group]
                if targets is None:
                    correct = matched = False
                else:
                    for box, _ in found:
                        for target, _ in targets:
                            if relation not in geneval_position(box, target):
                                correct = matched = False
        matched_groups.append(found if matched else None)
    for unwanted in metadata.get("exclude", []):
        if len(objects.get(unwanted["class"], [])) >= unwanted["count"]:
            correct = False
    return correct
