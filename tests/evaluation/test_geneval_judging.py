"""GenEval's folder judged: every kind against the official rules, nothing twice, faults by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tiny_detectors
from pairuni.cli.app import app
from pairuni.distributed.shares import Share
from pairuni.evaluation.protocols.geneval_files import (
    TASKS,
    image_path,
    read_prompts,
    read_results,
    score,
    write_prompt,
    write_results,
)
from pairuni.evaluation.protocols.geneval_judging import judge_folder, read_folder
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.pipeline import DetectionPipeline
from pairuni.rewards.composition.rules import COLOURS
from reference import benchmark_rules


class Scripted:
    """A detector whose images say by their first pixel which row of the script is theirs."""

    name, names_colours = "scripted", False

    def __init__(self, script: list[list[Detection]], labels: frozenset[str]) -> None:
        self.script, self.labels = script, labels
        self.looked_at: Counter[int] = Counter()
        self.most = len(script)

    def __call__(self, pictures: Sequence[Image.Image]) -> list[list[Detection]]:
        rows = [pixel[0] * 256 + pixel[1] for pixel in (picture.getpixel((0, 0)) for picture in pictures)]  # type: ignore[index, operator]
        if sum(self.looked_at.values()) + len(rows) > self.most:
            raise RuntimeError("the machine went away")
        self.looked_at.update(rows)
        return [self.script[row] for row in rows]


class Paint:
    """The colour of an object by its confidence, all of which differ."""

    name = "paint"

    def __init__(self, colours: dict[float, str]) -> None:
        self.colours = colours

    def __call__(self, objects: Sequence[tuple[Image.Image, Detection]]) -> list[str]:
        return [self.colours[one.confidence] for _, one in objects]


def draw(folder: Path, prompts: Sequence[dict[str, Any]], samples: int) -> None:
    for number, metadata in enumerate(prompts):
        write_prompt(folder, number, metadata)
        for sample in range(samples):
            path = image_path(folder, number, sample)
            path.parent.mkdir(exist_ok=True)
            row = number * samples + sample
            Image.new("RGB", (8, 8), (row // 256, row % 256, 0)).save(path)


def seen(metadata: dict[str, Any], rng: np.random.Generator, colours: dict[float, str]) -> list[Detection]:
    """About what was asked, about where and in about the colour."""
    found = []
    for clause in metadata["include"]:
        for _ in range(max(0, clause["count"] + int(rng.choice([-1, 0, 0, 0, 0, 0, 1])))):
            x, y = rng.uniform(0, 90, 2)
            if "position" in clause and rng.random() < 0.8:
                way = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
                x, y = 50 + 150 * np.array(way[clause["position"][0]]) + rng.uniform(-10, 10, 2)
            sure = float(rng.uniform(0.91, 1.0) if rng.random() < 0.9 else rng.uniform(0.0, 0.9))
            wanted = clause.get("color", "red")
            colours[sure] = wanted if rng.random() < 0.8 else str(rng.choice(COLOURS))
            found.append(Detection((float(x), float(y), float(x) + 20, float(y) + 20), sure, clause["class"]))
    return found


def test_every_kind_against_the_official_rules(benchmarks: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prompts = read_prompts(benchmarks / "geneval" / "evaluation_metadata.jsonl")
    sizes = dict(zip(TASKS, (80, 99, 80, 94, 100, 100), strict=True))
    assert Counter(one["tag"] for one in prompts) == sizes
    colours: dict[float, str] = {}
    script = [seen(metadata, rng, colours) for metadata in prompts for _ in range(2)]
    names = (benchmarks / "geneval" / "object_names.txt").read_text().split("\n")
    draw(tmp_path / "drawn", prompts, samples=2)
    detector = Scripted(script, frozenset(filter(None, names)))
    judged = judge_folder(
        tmp_path / "drawn", DetectionPipeline(detector, Paint(colours)), tmp_path / "records"
    )
    assert judged is not None
    decided: Counter[tuple[str, bool]] = Counter()
    for row, one in enumerate(judged):
        metadata = prompts[row // 2]
        assert one.filename == str(image_path(tmp_path / "drawn", row // 2, row % 2))
        literal: dict[str, list[tuple[np.ndarray, str]]] = {}
        for name in {found.label for found in script[row]}:
            objects = [found for found in script[row] if found.label == name]
            boxes = np.array([[*found.box, found.confidence] for found in objects])
            literal[name] = [
                (boxes[place], colours[objects[place].confidence])
                for place in benchmark_rules.geneval_kept(boxes, metadata["tag"])
            ]
        assert one.verdict.correct == benchmark_rules.geneval_correct(metadata, literal), one
        assert one.verdict.correct == (one.verdict.reason == "")
        assert {name: [found.confidence for found in objects] for name, objects in one.objects.items()} == {
            name: [float(box[4]) for box, _ in kept] for name, kept in literal.items() if kept
        }
        decided[metadata["tag"], one.verdict.correct] += 1
    assert min(decided[task, right] for task in TASKS for right in (False, True)) >= 10, decided

    write_results(tmp_path / "results.jsonl", judged)
    assert read_results(tmp_path / "results.jsonl") == judged
    shares = {task: 100 * decided[task, True] / (2 * size) for task, size in sizes.items()}
    assert score(judged, detector="-").score == pytest.approx(sum(shares.values()) / 6)


def dogs(count: int) -> list[dict[str, Any]]:
    clause = {"class": "dog", "count": 1}
    return [{"tag": TASKS[row % 6], "include": [clause], "prompt": f"dog {row}"} for row in range(count)]


def scripted(pictures: int) -> Scripted:
    return Scripted(
        [[Detection((0, 0, 4, 4), 0.95, "dog")] if row % 3 else [] for row in range(pictures)],
        frozenset({"dog"}),
    )


def test_a_stopped_run_goes_on_and_nothing_is_judged_twice(tmp_path: Path) -> None:
    draw(tmp_path / "drawn", dogs(10), samples=2)
    detector = scripted(20)
    look, records = DetectionPipeline(detector, Paint({})), tmp_path / "records"
    detector.most = 9
    with pytest.raises(RuntimeError, match="went away"):
        judge_folder(tmp_path / "drawn", look, records, batch_size=4)
    assert sum(detector.looked_at.values()) == 8
    detector.most = 100
    judged = judge_folder(tmp_path / "drawn", look, records, batch_size=4)
    assert judged is not None
    assert [one.verdict.correct for one in judged] == [row % 3 > 0 for row in range(20)]
    assert detector.looked_at == Counter(range(20))
    # One that is drawn anew is judged anew, and so are all when another one judges.
    Image.new("RGB", (8, 8), (0, 1, 0)).save(image_path(tmp_path / "drawn", 0, 0))
    again = judge_folder(tmp_path / "drawn", look, records, batch_size=4)
    assert again is not None
    assert again[0].verdict.correct
    assert again[1:] == judged[1:]
    assert sum(detector.looked_at.values()) == 21
    judge_folder(tmp_path / "drawn", DetectionPipeline(detector, Paint({}), threshold=0.5), records)
    assert sum(detector.looked_at.values()) == 41


def test_processes_share_the_images(tmp_path: Path) -> None:
    draw(tmp_path / "drawn", dogs(9), samples=1)
    whole = judge_folder(tmp_path / "drawn", DetectionPipeline(scripted(9), Paint({})), tmp_path / "alone")
    detectors = [scripted(9), scripted(9)]
    judged = None
    for rank in (1, 0):
        share = Share(rank, 2)
        look = DetectionPipeline(detectors[rank], Paint({}))
        judged = judge_folder(tmp_path / "drawn", look, tmp_path / "shared", batch_size=2, share=share)
        assert (judged is None) == (rank == 1)
    assert judged == whole
    assert detectors[0].looked_at + detectors[1].looked_at == Counter(range(9))
    assert min(sum(one.looked_at.values()) for one in detectors) == 4


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    labels = frozenset({"dog"})
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        read_folder(tmp_path / "nowhere", labels)
    with pytest.raises(ValueError, match="is not in GenEval's layout: no folder such as 00000"):
        read_folder(tmp_path, labels)
    (tmp_path / "00000").mkdir()
    with pytest.raises(FileNotFoundError, match=r"00000/metadata\.jsonl: no such file"):
        read_folder(tmp_path, labels)
    draw(tmp_path, dogs(3), samples=0)
    with pytest.raises(ValueError, match=r"00000/samples: 0 images .* there must be some.* 3 of 3"):
        read_folder(tmp_path, labels)
    draw(tmp_path, dogs(3), samples=2)
    (tmp_path / "00000" / "grid.png").write_bytes(b"left alone")
    assert len(read_folder(tmp_path, labels)) == 6
    image_path(tmp_path, 1, 1).unlink()
    with pytest.raises(ValueError, match=r"00001/samples: 1 images .* others? prompts have 2.* 1 of 3"):
        read_folder(tmp_path, labels)
    image_path(tmp_path, 1, 1).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"00001/samples/00001\.png: cannot be read as an image"):
        judge_folder(tmp_path, DetectionPipeline(scripted(9), Paint({})), tmp_path / "records")
    with pytest.raises(
        ValueError, match=r"00000/metadata\.jsonl: clause 0 of 'include' names the class 'dog'"
    ):
        read_folder(tmp_path, frozenset({"dot"}))
    file = tmp_path / "00002" / "metadata.jsonl"
    file.write_text(file.read_text() * 2)
    with pytest.raises(ValueError, match=r"00002/metadata\.jsonl: 2 lines"):
        read_folder(tmp_path, labels)
    file.write_text(json.dumps({"tag": "colours", "include": [], "prompt": "-"}))
    with pytest.raises(ValueError, match="GenEval has no task 'colours'"):
        read_folder(tmp_path, labels)


def test_the_command_writes_official_results_and_the_score(tmp_path: Path) -> None:
    prompts = dogs(6)
    prompts[3]["include"] = [{"class": "couch", "count": 1, "color": "red"}]
    draw(tmp_path / "drawn", prompts, samples=1)
    out = tmp_path / "judged" / "results.jsonl"
    words = ["eval", "judge", "geneval", str(tmp_path / "drawn"), "--out", str(out), "--device", "cpu"]
    words += ["--detector", str(tiny_detectors.yolos(tmp_path / "yolos"))]
    words += ["--clip", str(tiny_detectors.clip(tmp_path / "clip"))]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "GenEval" in result.output
    assert f"6 images: {out}" in result.output
    assert [one.metadata["tag"] for one in read_results(out)] == list(TASKS)
    scored = CliRunner().invoke(app, ["eval", "score", "geneval", str(out), "--judge", "tiny"])
    assert scored.exit_code == 0, scored.output
    words[words.index("--clip") + 1] = str(tmp_path / "nowhere.d")
    missing = CliRunner().invoke(app, words)
    assert missing.exit_code == 1
    assert "nowhere.d: no such file or folder; set --clip" in missing.output
