"""A build from parquet, tars and several inputs per side; bad records that stop it or are dropped."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from colour_world import build, write_rows
from pairuni.config import CompletionSettings, PairsSettings, load_settings
from pairuni.pairug.build import plan_completion
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.pairug.dataset.store import iter_problems, read_pairs
from source_data import orsta_row, tar_of


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).rotate(10 * number).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def raw(folder: Path) -> PairsSettings:
    rows = [orsta_row(images=[{"bytes": png(n), "path": None}]) for n in range(6)]
    broken = orsta_row(images=[{"bytes": b"\x89PNG\r\n\x1a\nno image", "path": None}])
    pq.write_table(
        pa.Table.from_pylist([*rows, orsta_row(ability="Detection"), broken]), folder / "u.parquet"
    )
    members = []
    for number in range(6):
        members += [(f"{number}.png", png(number + 6)), (f"{number}.txt", b"something blue")]
    tar_of(folder / "g.tar", members)
    (folder / "more.png").write_bytes(png(12))
    write_rows(folder / "more.jsonl", [{"image": "more.png", "caption": "something red"}])
    return PairsSettings(
        understanding=[str(folder / "u.parquet")],
        generation=[str(folder / "g.tar"), str(folder / "more.jsonl")],
        out=folder / "out",
        clusters=2,
        threshold=0.1,
    )


def test_images_inside_files_end_beside_the_pairs(tmp_path):
    settings = raw(tmp_path)
    summary = build(settings)
    assert (summary.samples, summary.quadruples, summary.dropped) == (14, 13, 1)
    (dropped,) = map(json.loads, (settings.out / "dropped.jsonl").read_text().splitlines())
    assert dropped["origin"] == "understanding"
    assert "image" in dropped["reason"]
    before = (settings.out / "pairs.jsonl").read_bytes()
    assert list(iter_problems(settings.out / "pairs.jsonl")) == []
    pairs = read_pairs(settings.out / "pairs.jsonl")
    sides = [side for pair in pairs for side in (pair.generate_ann, pair.understand_ann)]
    assert {side.source.partition(":")[0] for side in sides} <= {"u.parquet", "g.tar", "more.jsonl"}
    text = (settings.out / "README.md").read_text()
    assert f"{len(pairs)} understanding-generation pairs" in text
    assert "| K, clusters | 2 |" in text
    assert "| left out of understanding: detection | 1 |" in text
    assert "| u.parquet | understanding |" in text
    files = sorted((settings.out / "images").rglob("*.*"))
    build(settings)
    assert (settings.out / "pairs.jsonl").read_bytes() == before
    assert sorted((settings.out / "images").rglob("*.*")) == files


def test_bad_records_stop_the_build_or_are_dropped(tmp_path):
    settings = raw(tmp_path)
    whole = (tmp_path / "g.tar").read_bytes()
    (tmp_path / "g.tar").write_bytes(whole[: len(whole) // 2])
    write_rows(tmp_path / "more.jsonl", [{"image": "more.png"}, {"image": "more.png", "caption": "b"}])
    with pytest.raises(ValueError, match=r"g\.tar, after member \d+: is truncated .* \(and 1 more problem\)"):
        build(settings)
    assert not (settings.out / "pairs.jsonl").exists()
    dropping = settings.model_copy(update={"bad_records": "drop"})
    summary = build(dropping)
    rows = [json.loads(line) for line in (settings.out / "dropped.jsonl").read_text().splitlines()]
    assert summary.samples == summary.quadruples + summary.dropped
    assert summary.dropped == len(rows) == 3
    assert any("more.jsonl, line 1, field prompt: is missing" in row["reason"] for row in rows)
    assert any("g.tar" in row["id"] for row in rows)


def test_inputs_of_a_side_are_a_list_or_parted_by_commas(tmp_path):
    overrides = ["--understanding", "a.jsonl?question='{x}, is it?'&answer=y,b.tar", "--out", "o"]
    recipe = tmp_path / "pairs.toml"
    recipe.write_text('generation = ["g,1.jsonl", "h.csv"]\n')
    settings = load_settings(PairsSettings, recipe, overrides)
    assert settings.understanding == ["a.jsonl?question='{x}, is it?'&answer=y", "b.tar"]
    assert settings.generation == ["g,1.jsonl", "h.csv"]
    with pytest.raises(ValueError, match=r"understanding is \[\], but must not be empty"):
        load_settings(PairsSettings, recipe, ["--out", "o", "--understanding=[]"])


def test_a_dry_run_of_embedded_images_writes_nothing(tmp_path):
    settings = raw(tmp_path)
    chosen = CompletionSettings(model="m")
    settings = settings.model_copy(update={"annotator": "endpoint", "completion": chosen})
    plan = plan_completion(settings, ModelAnnotator("endpoint", chosen))
    assert plan.samples == 14
    assert plan.least_calls == 2 * 13, "the broken image needs none"
    assert not settings.out.exists()


def test_an_image_in_both_corpora_is_one_file(tmp_path):
    shared = png(3)
    tar_of(tmp_path / "g.tar", [("a.png", shared), ("a.txt", b"red"), ("b.png", png(5)), ("b.txt", b"blue")])
    (tmp_path / "a.png").write_bytes(shared)
    write_rows(tmp_path / "u.jsonl", [{"image": "a.png", "question": "colour?", "answer": "red"}])
    settings = PairsSettings(
        understanding=[str(tmp_path / "u.jsonl")], generation=[str(tmp_path / "g.tar")], out=tmp_path / "out"
    )
    build(settings)
    rows = [json.loads(line) for line in (settings.out / "quadruples.jsonl").read_text().splitlines()]
    paths = {(row["origin"], row["answer"]): row["image_path"] for row in rows}
    assert paths["understanding", "red"] == paths["generation", "red"] != paths["generation", "blue"]


def test_a_corpus_of_which_nothing_is_left_is_a_sentence(tmp_path):
    settings = raw(tmp_path).model_copy(update={"bad_records": "drop"})
    (tmp_path / "g.tar").write_bytes(b"")
    write_rows(tmp_path / "more.jsonl", [{"image": "more.png"}])
    with pytest.raises(
        ValueError, match=r"none of the 2 generation samples can be used; the first, .*g\.tar"
    ):
        build(settings)
    write_rows(tmp_path / "more.jsonl", [])
    only = settings.model_copy(update={"generation": [str(tmp_path / "more.jsonl")]})
    with pytest.raises(ValueError, match=r"more\.jsonl: the generation set is empty"):
        build(only)
    pq.write_table(pa.Table.from_pylist([orsta_row(ability="Grounding")]), tmp_path / "u.parquet")
    with pytest.raises(ValueError, match=r"the understanding set is empty \(1 with grounding left out\)"):
        build(settings)


def test_what_is_not_kept_of_records_is_logged(tmp_path, caplog):
    settings = raw(tmp_path)
    (tmp_path / "a.png").write_bytes(png(3))
    turns = [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "2"},
    ]
    write_rows(tmp_path / "chat.jsonl", [{"messages": turns, "image": "a.png"}])
    settings = settings.model_copy(update={"understanding": [str(tmp_path / "chat.jsonl")]})
    with caplog.at_level("WARNING", "pairuni"):
        build(settings)
    assert "chat.jsonl: system messages dropped from 1 record" in caplog.text
