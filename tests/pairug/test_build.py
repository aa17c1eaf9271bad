"""From raw files to a checked PairUG: on a small world, on real data, and with what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from colour_world import Template, build, files_of, rows_of, small, world, write_rows
from kill_events import run_child
from pairuni.cli import pairs as commands
from pairuni.config import PairsSettings
from pairuni.pairug.completion.custom_annotator import CompletionError
from pairuni.pairug.dataset.store import iter_problems, read_pairs, read_quadruples
from pairuni.pairug.selection import features as stage
from pairuni.pairug.selection.features import encode_features
from pairuni.records import GenerationSample, UnderstandingSample
from reference.algorithm1 import algorithm1

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def changed(settings: PairsSettings, **changes: object) -> PairsSettings:
    return settings.model_copy(update=changes)


def test_the_stages_make_a_complete_and_valid_data_set(built):
    out, summary = built.settings.out, built.summary
    pairs = read_pairs(out / "pairs.jsonl")
    assert list(iter_problems(out / "pairs.jsonl")) == []
    assert summary.samples == summary.quadruples == 80
    assert len(pairs) == summary.pairs == summary.aligned + summary.retrieved
    assert (summary.aligned, summary.clusters) == (5, 5)
    assert summary.retrieved > 25
    assert len(read_quadruples(out / "quadruples.jsonl")) == 80
    assert (out / "dropped.jsonl").read_text() == ""
    stats = json.loads((out / "stats.json").read_text())
    assert stats["build"] == summary.to_json()
    assert sum(stats["aligned_origins"].values()) == 5
    for name in ("completion", "features"):
        assert sum(done for told, done, total in built.progress if (told, total) == (name, 80)) == 80

    used = [{p.generate_ann.image_path, p.understand_ann.image_path} for p in pairs]
    assert sum(map(len, used)) == len(set().union(*used))
    for pair in pairs:
        assert pair.generate_ann.tag == pair.understand_ann.tag
        assert pair.generate_ann.image_path.startswith("images/")
        if pair.kind == "retrieved":
            assert 0.6 <= pair.similarity <= 1
            assert (pair.generate_ann.origin, pair.understand_ann.origin) == ("generation", "understanding")


@pytest.mark.parametrize("selection", ["medoids", "random"])
def test_a_build_with_the_paper_s_settings_is_algorithm_1_pair_for_pair(tmp_path, selection):
    settings = changed(world(tmp_path), matching="sequential", clustering="reference", selection=selection)
    build(settings)
    quadruples = read_quadruples(settings.out / "quadruples.jsonl")
    images = [one.image_path for one in quadruples]
    features = encode_features(
        [settings.out / image for image in images], small, batch_size=8, cache=tmp_path / "features"
    ).features
    expected = algorithm1(
        features,
        [one.origin for one in quadruples],
        images,
        clusters=5,
        threshold=settings.threshold,
        max_matches=1,
        seed=settings.seed,
        selection=selection,
    )
    made = [
        (pair.generate_ann.id, pair.understand_ann.id, pair.similarity)
        for pair in read_pairs(settings.out / "pairs.jsonl")
    ]
    assert made == [(quadruples[g].id, quadruples[u].id, round(cosine, 6)) for g, u, cosine in expected]
    stats = json.loads((settings.out / "stats.json").read_text())
    assert stats["settings"]["selection"] == selection


def test_a_second_build_changes_nothing_and_another_seed_does(built, tmp_path):
    settings = changed(built.settings, out=tmp_path / built.settings.out.name)
    build(settings)
    first = files_of(settings.out)
    assert first == files_of(built.settings.out)
    build(settings)
    assert files_of(settings.out) == first
    build(changed(settings, seed=1))
    assert (settings.out / "pairs.jsonl").read_bytes() != first["pairs.jsonl"]


def test_the_matchings_are_compared_on_what_the_medoids_leave(tmp_path):
    settings = changed(world(tmp_path), compare_matchings=True, candidates=3)
    for matching in ("sequential", "greedy", "optimal"):
        summary = build(changed(settings, matching=matching))
        found = commands.stats(settings.out / "pairs.jsonl")
        pairs = read_pairs(settings.out / "pairs.jsonl")
        retrieved = [pair.similarity for pair in pairs if pair.similarity < 1]
        compared = found["matchings"][matching]
        assert compared["pairs"] == summary.retrieved == len(retrieved)
        assert compared["total_similarity"] == pytest.approx(sum(retrieved), abs=1e-3)
        assert compared["mean_similarity"] == pytest.approx(np.mean(retrieved), abs=1e-4)
        medoids = Counter(
            pair.understand_ann.model_extra["origin"] for pair in pairs if pair.kind == "aligned"
        )
        left = summary.quadruples // 2 - medoids["generation"]
        assert compared["generation_used"] == pytest.approx(summary.retrieved / left, abs=1e-4)
    made = found["matchings"]
    assert made["optimal"]["total_similarity"] > made["sequential"]["total_similarity"]


def test_images_outside_are_copied_so_that_later_changes_do_no_harm(tmp_path):
    settings = world(tmp_path)
    build(settings)
    copies = {path: path.read_bytes() for path in (settings.out / "images").iterdir()}
    spoilt = settings.out / read_pairs(settings.out / "pairs.jsonl")[0].generate_ann.image_path
    spoilt.write_bytes(b"")
    build(settings)
    for path in (tmp_path / "g" / "images").iterdir():
        path.write_bytes((tmp_path / "u" / "images" / "0.png").read_bytes())
    shutil.rmtree(tmp_path / "u")
    assert {path: path.read_bytes() for path in copies} == copies
    assert list(iter_problems(settings.out / "pairs.jsonl")) == []


def test_images_inside_the_folder_stay_in_place(tmp_path):
    settings = changed(world(tmp_path / "pairug"), out=tmp_path / "pairug")
    build(settings)
    assert not (settings.out / "images").exists()
    pairs = read_pairs(settings.out / "pairs.jsonl")
    assert {pair.generate_ann.image_path.split("/")[0] for pair in pairs} <= {"u", "g"}


def test_an_image_in_both_corpora_is_one_image(tmp_path):
    settings = world(tmp_path)
    for number in range(40):
        shutil.copy(tmp_path / "u" / "images" / f"{number}.png", tmp_path / "g" / "images" / f"{number}.png")
    summary = build(settings)
    pairs = read_pairs(settings.out / "pairs.jsonl")
    assert len(pairs) == 40
    assert {(pair.kind, pair.similarity) for pair in pairs} == {("aligned", 1.0)}
    assert len({pair.generate_ann.image_path for pair in pairs}) == 40
    assert (summary.aligned, summary.retrieved) == (40, 0)


def test_bad_images_and_refused_samples_are_dropped_with_reasons_and_add_up(tmp_path, caplog):
    settings = world(tmp_path)
    images = tmp_path / "u" / "images"
    (images / "3.png").unlink()
    (images / "4.png").write_bytes((images / "4.png").read_bytes()[:60])
    rows = rows_of(Path(settings.understanding[0]))
    rows[5]["answer"] = "grey"
    write_rows(Path(settings.understanding[0]), rows)
    summary = build(settings)
    dropped = {row["id"]: row for row in rows_of(settings.out / "dropped.jsonl")}
    assert dropped.keys() == {"u3", "u4", "u5"}
    assert dropped["u3"]["reason"] == "the image is missing"
    assert "the image cannot be decoded" in dropped["u4"]["reason"]
    assert dropped["u5"]["reason"] == "refused 3 times, at last: grey is no colour"
    assert (summary.samples, summary.quadruples, summary.dropped) == (80, 77, 3)
    assert "3 samples were dropped; the first is u3: the image is missing" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "u/data.jsonl").write_text(""), "the understanding set is empty"),
        (lambda folder: shutil.rmtree(folder / "g/images"), "none of the 40 generation samples can be used"),
        (
            lambda folder: [path.write_bytes(b"x") for path in (folder / "u/images").iterdir()],
            "none of the 40 understanding samples can be used; .* is not a supported image",
        ),
        (
            lambda folder: (folder / "g/data.jsonl").write_bytes(
                (folder / "g/data.jsonl").read_bytes()[:-20]
            ),
            r"g/data\.jsonl, line 40: is not valid JSON",
        ),
    ],
)
def test_raw_data_that_cannot_be_used_is_a_sentence_and_earlier_results_stay(tmp_path, spoil, sentence):
    settings = world(tmp_path)
    build(settings)
    before = files_of(settings.out)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        build(settings)
    assert files_of(settings.out) == before


def test_a_build_that_failed_resumes_without_requesting_answers_again(tmp_path):
    settings = world(tmp_path)

    class Tired(Template):
        calls = 0

        def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
            Tired.calls += 1
            if Tired.calls == 11:
                raise TimeoutError("no answer")
            return super().question(sample, feedback)

    with pytest.raises(CompletionError, match="generation sample 'g10'"):
        build(settings, annotator=Tired())
    assert not (settings.out / "pairs.jsonl").exists()
    summary = build(settings, annotator=Tired())
    assert Tired.calls == 41
    assert summary.tries == 80
    assert not (settings.out / "cache" / "completion.jsonl").exists()


def test_a_build_killed_while_encoding_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "SHARD", 8)
    whole, settings = world(tmp_path / "whole"), world(tmp_path / "killed")
    build(whole)
    batches = []

    def counting(images: Sequence[Image.Image]) -> np.ndarray:
        batches.append(len(images))
        return small(images)

    def dying(images: Sequence[Image.Image]) -> np.ndarray:
        if len(batches) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return counting(images)

    assert run_child(lambda: build(settings, encoder=dying)) is None
    build(settings, encoder=counting)
    assert batches == [1] + [8] * 6
    for name in ("pairs.jsonl", "quadruples.jsonl", "stats.json"):
        assert (settings.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_clusters_follow_the_paper_s_ratio_when_none_are_given(tmp_path):
    assert build(changed(world(tmp_path), clusters=None)).clusters == 4


def test_a_search_by_clusters_says_what_it_found(tmp_path, monkeypatch):
    settings = world(tmp_path, count=200)
    whole = build(settings)
    assert (whole.compared, whole.recall) == (1.0, 1.0)
    monkeypatch.setattr("pairuni.pairug.selection.candidates.EXACT_COMPARISONS", 0)
    near = build(changed(settings, clusters=12, candidates=4))
    assert 0.0 < near.compared < 1.0
    assert 0.9 < near.recall <= 1.0
    stats = json.loads((settings.out / "stats.json").read_text())
    assert (stats["build"]["compared"], stats["build"]["recall"]) == (near.compared, near.recall)
    assert "near pairs found, share on a sample" in (settings.out / "README.md").read_text()


@pytest.mark.parametrize(
    "change", [{"threshold": 1.7}, {"threshold": -0.1}, {"max_matches": 0}, {"clusters": 0}, {"delta": 0.5}]
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValidationError):
        PairsSettings(understanding=Path("u"), generation=Path("g"), out=Path("o"), **change)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not there")
def test_puzzles_and_photographs_make_pairs(tmp_path):
    """PuzzleVQA as understanding data, COCO captions as generation data."""
    for corpus in ("u", "g"):
        (tmp_path / corpus / "images").mkdir(parents=True)
    understanding, generation = [], []
    for kind in ("color_grid", "triangle"):
        for row in rows_of(DATA / "puzzlevqa" / f"{kind}.jsonl")[:25]:
            name = Path(row["image"]).name
            shutil.copy(DATA / "puzzlevqa" / row["image"], tmp_path / "u" / "images" / name)
            options = [str(option) for option in row["options"]]
            listed = " ".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))
            understanding.append(
                {
                    "image_path": f"images/{name}",
                    "question": f"{row['question']} {listed}",
                    "answer": "ABCD"[options.index(str(row["answer"]))],
                    "tag": kind,
                    "caption": row["caption"],
                }
            )
    for row in rows_of(DATA / "coco_by" / "photos.jsonl"):
        shutil.copy(DATA / "coco_by" / row["image"], tmp_path / "g" / "images")
        words = row["captions"][0].strip(" .")
        generation.append(
            {"image_path": row["image"], "prompt": words, "tag": "photo", "license": row["license"]}
        )
    write_rows(tmp_path / "u" / "data.jsonl", understanding)
    write_rows(tmp_path / "g" / "data.jsonl", generation)

    class Captions(Template):
        def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
            return str(sample.caption)

    settings = PairsSettings(
        understanding=tmp_path / "u" / "data.jsonl",
        generation=tmp_path / "g" / "data.jsonl",
        out=tmp_path / "pairug",
        threshold=0.5,
    )
    summary = build(settings, annotator=Captions())
    assert (summary.samples, summary.dropped) == (101, 0)
    assert summary.aligned == summary.clusters == 5
    pairs = read_pairs(settings.out / "pairs.jsonl")
    retrieved = [pair for pair in pairs if pair.kind == "retrieved"]
    assert len(retrieved) > 20
    assert all(pair.generate_ann.license.startswith("CC BY") for pair in retrieved)
    assert list(iter_problems(settings.out / "pairs.jsonl")) == []
    letters = json.loads((settings.out / "stats.json").read_text())["answer_letters"]["understanding"]
    assert set(letters) <= set("ABCD")
    assert os.listdir(settings.out / "cache") == ["features"]
