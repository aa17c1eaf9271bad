"""Fuzzing targets: a folder of valid input, which of its files are damaged, and the reader of the folder."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from fake_run import write_fake_run
from pairuni.chat.replies import Reply, Unusable, read_reply
from pairuni.config import PairsSettings, RunSettings, ScoreSettings, load_settings, to_toml
from pairuni.evaluation.journal import read_journal
from pairuni.evaluation.protocols import wise
from pairuni.evaluation.protocols.geneval_files import TASKS as GENEVAL
from pairuni.evaluation.protocols.geneval_files import Judged, write_results
from pairuni.evaluation.protocols.mme import PERCEPTION
from pairuni.evaluation.protocols.mmstar import CATEGORIES
from pairuni.evaluation.protocols.wise import marks_in
from pairuni.evaluation.result import read_result
from pairuni.evaluation.tasks import score_files
from pairuni.io.images import ImageError, load_image, read_header, traits_of
from pairuni.pairug.dataset.store import iter_problems, read_pairs, write_pairs
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources import SampleReader
from pairuni.records import GenerationSample, UnderstandingSample
from pairuni.report import write_gallery, write_report
from pairuni.rewards.answers.accuracy import answers_match
from pairuni.rewards.composition.detection import Detection
from pairuni.rewards.composition.rules import Verdict
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    load_checkpoint,
)
from pairuni.training.saver import save_checkpoint

LISTED = "What is on the shirt? A. Stripes B. Polka dots C. Dots D. No pattern"


SENTENCES = (ValueError, OSError, CheckpointError)
"""What the readers may raise; the commands print it as one sentence."""


@dataclass(frozen=True)
class Target:
    """make: writes valid input into an empty folder. damage: pattern of the files to damage. use: reads the folder.

    quick: number of inputs in the default run.
    """

    name: str
    make: Callable[[Path], None]
    damage: str
    use: Callable[[Path], Any]
    quick: int = 60


def raise_for(faults: list[str]) -> None:
    """Raise one ValueError for what several readers said."""
    if faults:
        raise ValueError("; ".join(faults))


def png(seed: int, size: tuple[int, int] = (16, 16)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _side(number: int, image: str) -> dict[str, Any]:
    return {
        "image_path": image,
        "prompt": f"{number} red cats",
        "question": LISTED,
        "answer": "B",
        "tag": "counting",
        "extra": {"from": [number, None, 0.5]},
    }


def _make_pairs(folder: Path) -> None:
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
    rows = [
        {"similarity": 0.7, "understand_ann": _side(n, f"{n}.png"), "generate_ann": _side(n, f"{n + 2}.png")}
        for n in range(2)
    ]
    _lines(folder / "pairs.jsonl", rows)


def _use_pairs(folder: Path) -> None:
    for problem in iter_problems(folder / "pairs.jsonl"):
        assert str(problem).startswith(str(folder))
    write_gallery(read_pairs(folder / "pairs.jsonl"), folder, folder / "gallery", title="pairs")


def _make_parquet(folder: Path) -> None:
    _make_pairs(folder)
    write_pairs(folder / "pairs.parquet", read_pairs(folder / "pairs.jsonl"), embed=folder)


def _use_parquet(folder: Path) -> None:
    list(iter_problems(folder / "pairs.parquet"))
    read_pairs(folder / "pairs.parquet")


def _make_rows(folder: Path) -> None:
    for number in range(2):
        (folder / f"{number}.png").write_bytes(png(number))
        (folder / "rows").mkdir(exist_ok=True)
        (folder / "rows" / f"{number}.png").write_bytes(png(number + 2))
        (folder / "rows" / f"{number}.txt").write_text(f"caption {number}")
    plain = {
        "image": "0.png",
        "question": "Which?",
        "options": ["red", "blue"],
        "answer": "B",
        "caption": "a cat",
    }
    turns = [{"from": "human", "value": "<image>\nWhich?"}, {"from": "gpt", "value": "blue"}]
    chat = {"image": "1.png", "conversations": turns, "caption": "a dog"}
    _lines(folder / "rows.jsonl", [plain, chat])
    (folder / "rows.json").write_text(json.dumps([plain, chat]))
    (folder / "rows.csv").write_text(
        'image,question,answer,caption\n0.png,"Which, of two?",red,a cat\n1.png,Why?,no,x\n'
    )
    (folder / "rows.tsv").write_text(
        "image\tquestion\tanswer\tcaption\n0.png\tWhich?\tred\ta cat\n1.png\tWhy?\tno\tx\n"
    )
    columns = {
        "image": [{"bytes": png(5), "path": "5.png"}, {"bytes": png(6), "path": "6.png"}],
        "question": ["Which?", "Why?"],
        "answer": ["red", "blue"],
        "caption": ["a cat", "a dog"],
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    with tarfile.open(folder / "rows.tar", "w") as tar:
        for name, data in (
            ("0.png", png(7)),
            ("0.txt", b"a cat"),
            ("1.png", png(8)),
            ("1.json", b'{"caption": "x"}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


_READ: set[tuple[str, bytes]] = set()
"""Names and contents of rows that were read: of the files of a folder, one is damaged, and the others are read once."""


def _use_rows(folder: Path) -> None:
    problems = []
    for path in sorted(folder.glob("rows*")):
        content = b"".join(one.read_bytes() for one in ([path] if path.is_file() else sorted(path.iterdir())))
        if (path.name, content) in _READ:
            continue
        _READ.add((path.name, content))
        for kind in (UnderstandingSample, GenerationSample)[path.suffix in {"", ".tar"} :]:
            try:
                for found in SampleReader(str(path), kind, folder / "pictures"):
                    if isinstance(found, Problem):
                        problems.append(str(found))
                    else:
                        assert Path(found.image_path).resolve().is_relative_to(folder.resolve())
            except SENTENCES as error:
                problems.append(str(error))
    raise_for(problems)


def _make_settings(folder: Path) -> None:
    words = ["--policy.model", "m", "--data.pairs", "pairs.jsonl", "--reward.generation", "hpsv2"]
    (folder / "run.toml").write_text(to_toml(load_settings(RunSettings, None, words)))
    words = ["--understanding", "u.jsonl", "--generation", "g.jsonl", "--out", "o", "--annotator", "digits"]
    (folder / "build.toml").write_text(to_toml(load_settings(PairsSettings, None, words)))


def _use_settings(folder: Path) -> None:
    load_settings(RunSettings, folder / "run.toml")
    load_settings(PairsSettings, folder / "build.toml")


def _make_images(folder: Path) -> None:
    image = Image.open(io.BytesIO(png(1, (24, 17))))
    exif = Image.Exif()
    exif[274] = 6
    frames = {"save_all": True, "append_images": [image.rotate(90)], "duration": 40}
    image.save(folder / "a.jpg", exif=exif, icc_profile=bytes(200))
    image.save(folder / "late.png", exif=exif)
    for name in ("a.webp", "a.bmp", "a.avif", "a.ppm"):
        image.save(folder / name)
    image.save(folder / "a.tif", compression="tiff_lzw")
    for name in ("frames.gif", "frames.png", "frames.webp", "frames.tif"):
        image.save(folder / name, **frames)
    image.convert("RGBA").save(folder / "alpha.png")
    image.convert("P").save(folder / "palette.png", transparency=3)
    Image.fromarray(np.arange(300, dtype=np.uint16).reshape(20, 15)).save(folder / "deep.png")
    Image.fromarray(np.arange(300, dtype=np.int32).reshape(20, 15)).save(folder / "deep.tif")
    image.convert("CMYK").save(folder / "cmyk.jpg")


@cache
def _image_fault(data: bytes) -> str:
    """Read in every way, an image is RGB or has a fault of one line."""
    faults = ""
    for use in (load_image, read_header, traits_of):
        try:
            made = use(data)
            assert not isinstance(made, Image.Image) or made.mode == "RGB"
        except ImageError as error:
            faults = str(error)
            assert len(faults) < 200
            assert "\n" not in faults
    return faults


def _use_images(folder: Path) -> None:
    raise_for(list(filter(None, (_image_fault(path.read_bytes()) for path in sorted(folder.iterdir())))))


def _make_checkpoint(folder: Path) -> None:
    tensors = {
        "trained": {"a": torch.arange(60.0), "b": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer": {},
    }
    state = {"seed": 3, "digests": {"model": "ab" * 16}, "settings": {"pairgrpo": {"beta": 0.0}}}
    save_checkpoint(folder, Checkpoint(step=4, tensors=tensors, state=state), keep=1)


def _use_checkpoint(folder: Path) -> None:
    (found,) = list_checkpoints(folder)
    loaded = load_checkpoint(found)
    assert torch.equal(loaded.tensors["trained"]["a"], torch.arange(60.0)), "damage was taken for weights"


def _make_run(folder: Path) -> None:
    write_fake_run(folder / "run", steps=3, items=2, pairs=2)


def _use_run(folder: Path) -> None:
    page = write_report(folder / "run").read_text(encoding="utf-8")
    assert "<img src=x onerror=" not in page


def _make_replies(folder: Path) -> None:
    replies = {
        "reasoning": "<think>It is A? No, <answer>A</answer>.</think>\nThe answer is **B. Polka dots**, not A.",
        "formula": "So \\boxed{\\frac{1}{2} + \\sqrt{3}} is right, about 2.23 (two hundred and 3/4) [1,200, 300].",
        "verdict": 'Fine:\n```json\n{"right": true, "reason": "\\"is\\"", "marks": 2, "wrong": ["a", "b"]}\n```',
        "lines": "right: yes\nreason: it is\nmarks: 2.0\nwrong:\n- a\n- b",
        "marks": "Consistency: 2\nRealism: 1\nAesthetic Quality: 0",
    }
    for name, text in replies.items():
        (folder / f"{name}.txt").write_text(text)


class _Verdict(Reply):
    right: bool
    reason: str
    marks: float
    wrong: list[str]


@cache
def _unusable(text: str) -> str:
    """A reply is never an error of the rewards: it is right or wrong. What completion cannot take has a reason."""
    truths = {LISTED: "B", "How many?": "7", "Which?": "two red cats", "Is it?": "no"}
    for question, truth in truths.items():
        assert answers_match(question, truth, text) in (True, False)
    marks_in(text)
    try:
        read_reply({"text": text, "finish": "stop"}, _Verdict)
    except Unusable as reason:
        return str(reason)
    return ""


def _use_replies(folder: Path) -> None:
    reasons = {
        path: _unusable(path.read_bytes().decode("utf-8", "replace")) for path in sorted(folder.iterdir())
    }
    raise_for(
        [
            f"{path.name}: {reason}"
            for path, reason in reasons.items()
            if reason and path.stem in {"verdict", "lines"}
        ]
    )


def _make_official(folder: Path) -> None:
    _lines(
        folder / "pope" / "data" / "coco_pope_random.json",
        [{"image": "a", "text": "A dog?", "label": "yes"}] * 2,
    )
    _lines(
        folder / "pope" / "said" / "coco_pope_random.json",
        [{"question": "A dog?", "answer": "Yes, it is."}] * 2,
    )
    (folder / "mme").mkdir()
    for name in PERCEPTION:
        text = "a.jpg\tIs it?\tYes\tyes\na.jpg\tIs it not?\tNo\tYes\n"
        (folder / "mme" / f"{name}.txt").write_text(text)
    choice = {
        "id": "a",
        "question_type": "multiple-choice",
        "answer": "A",
        "response": "B or A",
        "all_choices": ["A", "B"],
    }
    row = {**choice, "index2ans": {"A": "red", "B": "blue"}}
    open_row = {"id": "b", "question_type": "open", "answer": ["3.5", "three"], "response": "It is 3.50."}
    (folder / "mmmu" / "Art").mkdir(parents=True)
    (folder / "mmmu" / "Art" / "output.json").write_text(json.dumps([row, open_row]))
    _lines(
        folder / "star.jsonl", [{"answer": "A", "category": name, "prediction": "A."} for name in CATEGORIES]
    )
    boxes = {"cat": [Detection((0, 0, 1, 1), 1)]}
    metadata = [{"tag": tag, "include": [], "prompt": tag} for tag in GENEVAL]
    judged = [Judged(f"{one['tag']}.png", one, Verdict(True, ""), boxes) for one in metadata]
    write_results(folder / "geneval.jsonl", judged)
    marks = {"consistency": 2, "realism": 1, "aesthetic_quality": 1}
    _lines(folder / "wise.jsonl", [{"prompt_id": number, **marks} for number in range(1, 1001)])
    (folder / "edits.json").write_text('{"1": {"edit_type": "add"}}')
    (folder / "marks.json").write_text('{"1": "A: 4\\nB: 5"}')
    (result,) = score_files(ScoreSettings(task="mmstar", paths=[folder / "star.jsonl"]))
    result.write(folder / "result.json")
    _lines(folder / "journal.jsonl", [{"key": "a", "value": {"reply": "yes"}}, {"key": "b", "value": "no"}])


def _use_official(folder: Path) -> None:
    given = [
        ScoreSettings(task="pope", paths=[folder / "pope" / "said"], data=folder / "pope" / "data"),
        ScoreSettings(task="mme", paths=[folder / "mme"]),
        ScoreSettings(task="mmmu", paths=[folder / "mmmu"]),
        ScoreSettings(task="mmstar", paths=[folder / "star.jsonl"]),
        ScoreSettings(task="geneval", paths=[folder / "geneval.jsonl"], judge="a"),
        ScoreSettings(task="imgedit", paths=[folder / "marks.json"], data=folder / "edits.json", judge="a"),
    ]
    faults = []
    wise.read_scores([folder / "wise.jsonl"])
    for settings in given:
        try:
            assert score_files(settings)
        except SENTENCES as error:
            faults.append(str(error))
    read_result(folder / "result.json")
    read_journal(folder / "journal.jsonl")
    raise_for(faults)


TARGETS = (
    Target("pair files", _make_pairs, "*.jsonl", _use_pairs),
    Target("pair files as parquet", _make_parquet, "*.parquet", _use_parquet),
    Target("raw data", _make_rows, "*", _use_rows),
    Target("settings", _make_settings, "*.toml", _use_settings),
    Target("images", _make_images, "*", _use_images),
    Target("checkpoints", _make_checkpoint, "*", _use_checkpoint),
    Target("run folders", _make_run, "*", _use_run, quick=60),  # most are images, which show as missing
    Target("replies", _make_replies, "*.txt", _use_replies, quick=40),
    Target("official files", _make_official, "*", _use_official),
)
