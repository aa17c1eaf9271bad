"""The world takes the ordinary road: raw files, completion, Algorithm 1, checked pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairuni.config import PairsSettings
from pairuni.digits.annotator import SceneAnnotator
from pairuni.digits.language import parse
from pairuni.digits.questions import without_options
from pairuni.digits.scenes import Scene
from pairuni.digits.world import write_world
from pairuni.pairug.build import build_pairs
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.dataset.store import iter_problems, read_pairs
from reference.digits_world import literal_answer, literal_satisfies


def mean_colours(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """The mean colour of each of the four places, and a little of every one so that none is zero."""
    rows = [np.asarray(image.resize((2, 2), Image.Resampling.BOX), np.float32).ravel() for image in images]
    return np.stack(rows) + 1.0


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_from_raw_files_to_true_pairs(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", seed=0, understanding=60, generation=60)
    raw = digests(tmp_path / "world")
    settings = PairsSettings(
        understanding=world.understanding, generation=world.generation, out=tmp_path / "pairug", clusters=8
    )
    annotator = make_annotator("scene")
    assert isinstance(annotator, SceneAnnotator)
    summary = build_pairs(settings, encoder=mean_colours, annotator=annotator)
    assert (summary.samples, summary.quadruples, summary.dropped, summary.tries) == (120, 120, 0, 120)
    assert list(iter_problems(settings.out / "pairs.jsonl")) == []
    assert digests(tmp_path / "world") == raw

    pairs = read_pairs(settings.out / "pairs.jsonl")
    assert summary.pairs == len(pairs) == summary.aligned + summary.retrieved
    assert summary.aligned == 8
    assert summary.retrieved > 10
    for side in [side for pair in pairs for side in (pair.generate_ann, pair.understand_ann)]:
        scene = Scene.from_json((side.model_extra or {})["scene"])
        assert literal_satisfies(scene, parse(side.prompt))
        text, answer = without_options(side.question, side.answer)
        assert literal_answer(scene, text) == answer
        assert scene.split == "train"
