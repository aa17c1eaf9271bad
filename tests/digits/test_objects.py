"""Digits as objects: GenEval's rules on the digits world agree with the world's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from pairuni.config import CompositionSettings, RewardSettings
from pairuni.digits.detectors import reward_detector
from pairuni.digits.language import DIGITS, Request, sentence
from pairuni.digits.prompts import PROMPT_KINDS, random_request, satisfies, scene_for
from pairuni.digits.scans import load_scans
from pairuni.digits.scenes import Scene, random_things, render
from pairuni.records import Annotation
from pairuni.rewards.registry import image_reward


def asked(request: Request, kind: str) -> dict[str, Any]:
    """A request of one of the six kinds as GenEval's metadata; no other digit may be there."""
    wanted = [request.wanted[0]] if kind == "counting" else [*request.wanted]
    include: list[dict[str, Any]] = [{"class": DIGITS[one.digit], "count": 1} for one in wanted]
    if kind == "counting":
        include[0]["count"] = len(request.wanted)
    for clause, one in zip(include, wanted, strict=True):
        if one.colour is not None:
            clause["color"] = one.colour
    if request.relation is not None:
        # A clause's position is to an earlier one, so what comes second in the sentence comes first.
        include = [include[1], include[0] | {"position": [request.relation, 0]}]
    counts = {clause["class"]: clause["count"] for clause in include}
    exclude = [{"class": digit, "count": counts.get(digit, 0) + 1} for digit in DIGITS]
    return {"tag": kind, "include": include, "exclude": exclude}


def test_genevals_decision_on_digits_is_the_worlds_own() -> None:
    rng, scans = np.random.default_rng(0), load_scans("reward")
    requests = [(kind, random_request(rng, kind, "train")) for kind in PROMPT_KINDS * 40]
    scenes = [
        scene_for(request, rng, None) if row % 2 else Scene.of(random_things(rng, int(rng.integers(1, 4))))
        for row, (_, request) in enumerate(requests)
    ]
    pictures = [Image.fromarray(render(scene, rng, scans)) for scene in scenes]
    records = [
        Annotation.model_validate(
            {"image_path": "-", "prompt": sentence(request), "question": "-", "answer": "-"}
            | asked(request, kind)
        )
        for kind, request in requests
    ]
    settings = [
        RewardSettings(composition=CompositionSettings(detector="digits", mode=mode))
        for mode in ("strict", "graded")
    ]
    strict, graded = (image_reward("composition", one)(records, pictures) for one in settings)
    readings = reward_detector().read(pictures)
    read = [row for row, reading in enumerate(readings) if reading.scene is not None]
    assert len(read) > 200
    right = [float(satisfies(readings[row].scene, requests[row][1])) for row in read]
    assert [strict[row] for row in read] == right
    assert 80 < sum(right) < len(read) - 80
    assert [score == 1.0 for score in graded] == [score == 1.0 for score in strict]
    assert np.mean(graded[1::2]) > np.mean(graded[::2])
