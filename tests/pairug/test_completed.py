"""Builds that pair the completed samples of an earlier build again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from colour_world import build, files_of, rows_of, world
from commands import fails
from pairuni.config import PairsSettings, load_settings
from pairuni.pairug.dataset.store import read_pairs


@pytest.fixture
def earlier(tmp_path: Path) -> PairsSettings:
    settings = world(tmp_path)
    build(settings)
    return settings


def again(earlier: PairsSettings, name: str, **changes: object) -> PairsSettings:
    values = {
        "understanding": [],
        "generation": [],
        "completed": earlier.out,
        "out": earlier.out.parent / name,
    }
    return earlier.model_copy(update={**values, **changes})


def test_the_same_settings_make_the_same_pairs_without_raw_data(earlier: PairsSettings) -> None:
    for corpus in ("u", "g"):
        shutil.rmtree(earlier.out.parent / corpus)
    settings = again(earlier, "again")
    summary = build(settings, annotator=None)
    assert (summary.samples, summary.dropped, summary.tries) == (summary.quadruples, 0, 0)
    first, second = (files_of(one.out) for one in (earlier, settings))
    assert first["pairs.jsonl"] == second["pairs.jsonl"]
    assert first["quadruples.jsonl"] == second["quadruples.jsonl"]
    name = read_pairs(settings.out / "pairs.jsonl")[0].generate_ann.image_path
    assert (settings.out / name).samefile(earlier.out / name)  # a hard link
    build(settings, annotator=None)
    assert files_of(settings.out) == second


def test_another_threshold_makes_other_pairs(earlier: PairsSettings) -> None:
    strict = again(earlier, "strict", threshold=0.99)
    build(strict, annotator=None)
    similarities = [row["similarity"] for row in rows_of(strict.out / "pairs.jsonl")]
    assert min(similarities) >= 0.99 > min(row["similarity"] for row in rows_of(earlier.out / "pairs.jsonl"))
    stats = json.loads((strict.out / "stats.json").read_text())
    assert stats["settings"]["threshold"] == 0.99
    assert str(earlier.out) not in json.dumps(stats)


def test_images_are_copied_where_there_are_no_hard_links(
    earlier: PairsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    settings = again(earlier, "again")
    build(settings, annotator=None)
    name = read_pairs(settings.out / "pairs.jsonl")[0].generate_ann.image_path
    assert not (settings.out / name).samefile(earlier.out / name)
    assert (settings.out / name).read_bytes() == (earlier.out / name).read_bytes()


def test_a_lost_image_drops_its_sample(earlier: PairsSettings) -> None:
    lost = rows_of(earlier.out / "quadruples.jsonl")[0]
    (earlier.out / lost["image_path"]).unlink()
    settings = again(earlier, "again")
    summary = build(settings, annotator=None)
    assert summary.dropped >= 1
    assert lost["id"] in {row["id"] for row in rows_of(settings.out / "dropped.jsonl")}


def test_what_is_no_finished_build_is_named(earlier: PairsSettings, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="`completed` names the folder of a finished build"):
        build(again(earlier, "again", completed=tmp_path / "nowhere"), annotator=None)
    path = earlier.out / "quadruples.jsonl"
    rows = rows_of(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["origin"] == "generation"))
    with pytest.raises(ValueError, match=r"quadruples.jsonl has no understanding samples"):
        build(again(earlier, "again"), annotator=None)
    path.write_text(json.dumps({**rows[0], "image_path": "../u/images/0.png"}) + "\n")
    with pytest.raises(ValueError, match=r"quadruples.jsonl, line 1, field image_path: "):
        build(again(earlier, "again"), annotator=None)


def test_commands(earlier: PairsSettings, tmp_path: Path) -> None:
    words = ["--completed", earlier.out, "--out", tmp_path / "again"]
    for command in ("encode", "split"):
        assert f"pairs {command} reads raw data" in fails("pairs", command, *words)
    with pytest.raises(
        ValueError, match="understanding is required; set it in the recipe or with --understanding"
    ):
        load_settings(PairsSettings, None, ["--generation", "g.jsonl", "--out", "x"])
    settings = load_settings(PairsSettings, None, [str(word) for word in words])
    assert settings.completed == earlier.out
