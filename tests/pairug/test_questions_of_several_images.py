"""Questions that show several images: records, pair files, raw data, completion, Algorithm 1, pairings."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chat_server import ChatServer
from colour_world import build, small, world, write_rows
from pairuni.config import CompletionSettings, PairsSettings, load_settings
from pairuni.pairug.completion.completion import CompletionReport
from pairuni.pairug.completion.local_model import messages_of
from pairuni.pairug.completion.model_tasks import task_of
from pairuni.pairug.completion.prompts import SEVERAL_PICTURES
from pairuni.pairug.completion.requests import RequestImage
from pairuni.pairug.dataset.card import card
from pairuni.pairug.dataset.conversion import convert_pairs
from pairuni.pairug.dataset.pairings import apply_pairing, load_pairing
from pairuni.pairug.dataset.publishing import write_data_set
from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.pairug.dataset.store import iter_problems, read_pairs, read_quadruples, write_pairs
from pairuni.pairug.jsonl import validate
from pairuni.pairug.scale.joining import join_parts
from pairuni.pairug.scale.splitting import split_raw
from pairuni.pairug.selection.features import encode_features, l2_normalise, of_samples
from pairuni.records import Annotation, GenerationSample, Quadruple, UGPair, UnderstandingSample
from reference.algorithm1 import algorithm1
from source_data import generated, lines, orsta_row, parquet, png, understood

TEXTS = {"prompt": "p", "question": "q?", "answer": "a"}


def faults(values: dict[str, Any], kind: type[Any] = Annotation) -> list[str]:
    found = validate(Path("f"), 1, values, kind)
    return [str(one).partition(", ")[2] for one in found] if isinstance(found, list) else []


def test_one_image_is_written_as_before_and_several_under_their_own_key():
    one, two = Annotation(image_path="a", **TEXTS), Annotation(image_paths=["a", "b"], **TEXTS, note=1)
    assert (one.image_path, one.image_paths) == ("a", ("a",))
    assert one == Annotation(image_paths=["a"], **TEXTS)
    assert one.model_dump() == {"image_path": "a", **TEXTS, "tag": ""}
    assert (two.image_path, two.image_paths) == ("a", ("a", "b"))
    assert two.model_dump() == {"image_paths": ["a", "b"], **TEXTS, "tag": "", "note": 1}
    assert Annotation(**two.model_dump()) == two == Annotation(image_path="a", **two.model_dump())
    assert two.with_images(["c", "d"]).model_dump()["image_paths"] == ["c", "d"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "line 1, field image_path: is missing"),
        ({"image_paths": []}, "line 1, field image_paths: must name at least one image, not []"),
        ({"image_paths": "a"}, "line 1, field image_paths: must be a list of image paths, not 'a'"),
        ({"image_paths": ["a", 3]}, "line 1, field image_paths.1: must be a string, not 3"),
        ({"image_paths": ["", "a"]}, "line 1, field image_paths.0: must not be empty"),
        ({"image_path": "a", "image_paths": ["b", "a"]}, "line 1: has an image_path that is not the first"),
    ],
)
def test_a_wrong_list_is_one_sentence(values, said):
    (found,) = faults({**TEXTS, **values})
    assert found.startswith(said)


def test_what_is_generated_is_one_image():
    several = {"image_paths": ["a", "b"], **TEXTS}
    (found,) = faults({"id": "g", "image_paths": ["a", "b"], "prompt": "p"}, GenerationSample)
    assert found == (
        "line 1, field image_paths: must name one image, because a prompt generates one, not ['a', 'b']"
    )
    (found,) = faults({"similarity": 1.0, "generate_ann": several, "understand_ann": several}, UGPair)
    assert found == (
        "line 1, field generate_ann: has several images, but what is generated from its prompt is one"
    )


# Pair files


def some_pairs(folder: Path) -> list[UGPair]:
    """Questions about 1, 2 and 3 images, which exist in ``folder``."""
    for number in range(4):
        Image.new("RGB", (6, 4), (60 * number, 0, 9)).save(folder / f"{number}.png")

    def pair(*numbers: int) -> UGPair:
        paths = [f"{number}.png" for number in numbers]
        return UGPair(
            similarity=1.0 if len(paths) == 1 else 0.7,
            generate_ann=Annotation(image_path="0.png", **TEXTS),
            understand_ann=Annotation(image_paths=paths, **TEXTS, source={"k": [1]}),
        )

    return [pair(0), pair(0, 1), pair(3, 2, 3)]


def test_pairs_survive_every_format(tmp_path):
    pairs = some_pairs(tmp_path)
    assert [pair.kind for pair in pairs] == ["aligned", "retrieved", "retrieved"]
    source = tmp_path / "pairs.jsonl"
    write_pairs(source, pairs)
    assert [json.loads(line)["understand_ann"].get("image_paths") for line in source.open()] == [
        None,
        ["0.png", "1.png"],
        ["3.png", "2.png", "3.png"],
    ]
    convert_pairs(source, tmp_path / "beside.parquet")
    convert_pairs(source, tmp_path / "inside.parquet", embed=True)
    for name in ("pairs.jsonl", "beside.parquet", "inside.parquet"):
        assert read_pairs(tmp_path / name) == pairs
        assert list(iter_problems(tmp_path / name)) == []
    convert_pairs(tmp_path / "inside.parquet", tmp_path / "out" / "again.jsonl")
    assert read_pairs(tmp_path / "out" / "again.jsonl") == pairs
    for number in range(4):
        assert (tmp_path / "out" / f"{number}.png").read_bytes() == (tmp_path / f"{number}.png").read_bytes()


def test_datasets_opens_the_lists(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_pairs(tmp_path / "pairs.parquet", some_pairs(tmp_path), embed=tmp_path)
    cache = str(tmp_path / "c")
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "pairs.parquet"), split="train", cache_dir=cache
    )
    one, _, three = (row["understand_ann"] for row in rows)
    assert one["image"].size == (6, 4)
    assert (one["image_path"], one["image_paths"], one["images"]) == ("0.png", None, None)
    assert [image.getpixel((0, 0)) for image in three["images"]] == [(180, 0, 9), (120, 0, 9), (180, 0, 9)]
    assert (three["image"], three["image_path"]) == (None, None)


def test_every_bad_image_of_a_question_is_found(tmp_path):
    pairs = some_pairs(tmp_path)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    write_pairs(tmp_path / "inside.parquet", pairs, embed=tmp_path)
    (tmp_path / "2.png").unlink()
    (tmp_path / "1.png").write_bytes(b"\x89PNG no")
    found = [str(one).partition(", ")[2] for one in iter_problems(tmp_path / "pairs.jsonl")]
    broken, missing = found
    assert broken.startswith("line 2, field understand_ann.image_paths.1: '1.png' is not a supported image")
    assert missing == "line 3, field understand_ann.image_paths.1: '2.png' is missing"
    assert list(iter_problems(tmp_path / "inside.parquet")) == []
    with pytest.raises(
        ValueError, match=r"pair 2, understand_ann\.image_paths\.1: '1\.png' is not a supported image"
    ):
        write_pairs(tmp_path / "p.parquet", pairs, embed=tmp_path)
    outside = pairs[1].understand_ann.with_images(["0.png", "../x.png"])
    with pytest.raises(
        ValueError, match=r"pair 1, understand_ann\.image_paths\.1: '\.\./x\.png' lies outside"
    ):
        write_pairs(tmp_path / "p.jsonl", [pairs[1].model_copy(update={"understand_ann": outside})])
    bad = json.loads(json.dumps(pairs[1].model_dump()))
    bad["understand_ann"]["image_paths"][1] = "/etc/x.png"
    lines(tmp_path / "bad.jsonl", bad)
    with pytest.raises(
        ValueError, match=r"line 1, field understand_ann\.image_paths\.1: '/etc/x\.png' is abs"
    ):
        read_pairs(tmp_path / "bad.jsonl")


def test_lost_embedded_images_are_a_problem(tmp_path):
    import pyarrow.parquet as pq

    write_pairs(tmp_path / "a.parquet", some_pairs(tmp_path), embed=tmp_path)
    table = pq.read_table(tmp_path / "a.parquet")
    rows = table.to_pylist()
    rows[2]["understand_ann"]["images"].pop()
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), tmp_path / "b.parquet")
    (problem,) = iter_problems(tmp_path / "b.parquet")
    assert str(problem).endswith("line 3, field understand_ann.images: has 2 images for 3 paths")
    with pytest.raises(ValueError, match=r"line 3, field understand_ann\.images: has 2 images for 3 paths"):
        convert_pairs(tmp_path / "b.parquet", tmp_path / "out" / "b.jsonl")


def test_statistics_card_and_what_is_published(tmp_path):
    pairs = some_pairs(tmp_path)
    numbers = pair_statistics(pairs)
    assert numbers["images_a_question"] == {"1": 1, "2": 1, "3": 1}
    assert numbers["distinct_images"] == 4
    said = "Questions with several images: 1 show 2, 1 show 3."
    assert said in card(pairs, {}, data_files="x", name="x")
    assert "several images:" not in card(pairs[:1], {}, data_files="x", name="x")
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    write_data_set(tmp_path / "pairs.jsonl", "me/pairs", tmp_path / "shared")
    (shard,) = (tmp_path / "shared" / "data").iterdir()
    assert read_pairs(shard) == pairs
    assert said in (tmp_path / "shared" / "README.md").read_text()


# Raw data


def test_raw_rows_with_lists_of_images(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    two = [{"bytes": png(number), "path": None} for number in (1, 2)]
    ask = {"question": "q?", "answer": "a"}
    rows = [
        {"image_paths": ["0.png", "1.png"], **ask},
        {"images": ["2.png", "0.png", "1.png"], **ask},
        {"image": ["1.png"], "prompt": "p", **ask},
        {"image_1": "2.png", "image_2": "0.png", "image_10": "1.png", "image_3": None, **ask},
    ]
    found = understood(lines(tmp_path / "u.jsonl", *rows))
    assert not found.problems
    assert [[Path(path).stem for path in one.image_paths] for one in found.samples] == [
        ["0", "1"],
        ["2", "0", "1"],
        ["1"],
        ["2", "0", "1"],
    ]
    assert all(Path(path).is_file() for one in found.samples for path in one.image_paths)
    assert not (found.samples[3].model_extra or {}).keys() & {"image_1", "image_2", "image_10"}
    (orsta,) = understood(parquet(tmp_path / "o.parquet", orsta_row(images=two)), tmp_path).samples
    assert len(orsta.image_paths) == 2
    assert [Path(path).read_bytes() for path in orsta.image_paths] == [png(1), png(2)]
    assert len({one.id for one in [*found.samples, orsta]}) == 5


def test_raw_rows_that_cannot_be_used_say_why(tmp_path):
    ask = {"question": "q?", "answer": "a"}
    rows = [
        {"images": [], **ask},
        {"images": ["a.png", "http://x/y.png"], **ask},
        {"images": ["a.png", "../b.png"], **ask},
        {"images": ["a.png", 3], **ask},
    ]
    found = understood(lines(tmp_path / "u.jsonl", *rows))
    assert found.left_out == {"no image": 1}
    assert [one.partition(", ")[2] for one in found.problems] == [
        "line 2, field image_path: 'http://x/y.png' is a URL; images are not downloaded: download it and name "
        "the file",
        "line 3, field image_path: '../b.png' lies outside the file's folder",
        "line 4, field image_paths.1: must be a string, not 3",
    ]
    drawn = generated(lines(tmp_path / "g.jsonl", {"images": ["a.png", "b.png"], "prompt": "p"}))
    assert drawn.left_out == {"more than one image": 1}


# Completion


def sample(folder: Path, count: int) -> UnderstandingSample:
    paths = []
    for number in range(count):
        path = folder / f"{count}-{number}.png"
        Image.new("RGB", (28, 28), (50 * number, 9, 9)).save(path)
        paths.append(str(path))
    return UnderstandingSample(id=f"u{count}", image_paths=paths, question="which differs?", answer="the 2nd")


def test_the_model_sees_every_image_of_a_question(tmp_path):
    settings = CompletionSettings(model="m")
    one, two = (sample(tmp_path, count) for count in (1, 2))
    asked = [
        task_of(each, [RequestImage.of(Path(path), 64) for path in each.image_paths], settings).write([])
        for each in (one, two)
    ]
    alone, both = asked
    assert [type(part) for part in both.content] == [RequestImage, RequestImage, str]
    assert both.text == SEVERAL_PICTURES.format(count=2) + alone.text
    assert both.tokens - alone.tokens >= 1
    assert [part["type"] for part in messages_of(both)[1]["content"]] == ["image", "image", "text"]
    swapped = task_of(two, [RequestImage.of(Path(path), 64) for path in two.image_paths[::-1]], settings)
    assert len({alone.key, both.key, swapped.write([]).key}) == 3


def test_an_endpoint_is_shown_them_in_order(tmp_path, run):
    with ChatServer() as server:
        report: CompletionReport = run(server, samples=[sample(tmp_path, 2)])
    (made,) = report.quadruples
    assert len(made.image_paths) == 2
    assert [ask.task for ask in server.asks] == ["caption", "check caption"]
    for ask in server.asks:
        parts = ask.body["messages"][-1]["content"]
        assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
        sent = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts[:2]]
        assert sent == [Path(path).read_bytes() for path in made.image_paths]
        assert ask.text.startswith("You see 2 pictures")


# Algorithm 1


def several_world(folder: Path) -> Any:
    """A world in which every fourth question shows a second image."""
    settings = world(folder)
    path = folder / "u" / "data.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % 4 == 0:
            first = row.pop("image_path")
            row["image_paths"] = [first, f"images/{(number + 3) % 40}.png"]
    write_rows(path, rows)
    return settings


def test_a_build_retrieves_them_and_never_aligns_them(tmp_path, caplog):
    caplog.set_level("INFO", "pairuni")
    settings = several_world(tmp_path).model_copy(
        update={"matching": "sequential", "clustering": "reference"}
    )
    summary = build(settings)
    out = settings.out
    assert summary.samples == summary.quadruples == 80
    pairs, quadruples = read_pairs(out / "pairs.jsonl"), read_quadruples(out / "quadruples.jsonl")
    assert list(iter_problems(out / "pairs.jsonl")) == []
    shown = Counter(len(pair.understand_ann.image_paths) for pair in pairs if pair.kind == "retrieved")
    assert shown[2] > 3
    assert all(len(pair.understand_ann.image_paths) == 1 for pair in pairs if pair.kind == "aligned")
    stats = json.loads((out / "stats.json").read_text())
    assert stats["several_images"] == {
        "samples": 10,
        "retrieved": shown[2],
        "not_paired": 10 - shown[2],
        "reason": "a prompt generates one image, so several give no generation half and are never aligned",
    }
    assert stats["images_a_question"]["2"] == shown[2]
    assert "10 samples with several images" in caplog.text

    again = settings.model_copy(
        update={"completed": out, "understanding": [], "generation": [], "out": tmp_path / "again"}
    )
    build(again)
    assert read_pairs(again.out / "pairs.jsonl") == pairs

    # the literal algorithm on the features of samples, computed one by one
    features = np.stack([literal_feature(out, one, tmp_path / "cache") for one in quadruples])
    expected = algorithm1(
        features,
        [one.origin for one in quadruples],
        ["|".join(one.image_paths) for one in quadruples],
        clusters=5,
        threshold=0.6,
        max_matches=1,
        seed=0,
        several=[len(one.image_paths) > 1 for one in quadruples],
    )
    ids = [one.id for one in quadruples]
    assert [(ids[g], ids[u]) for g, u, _ in expected] == [
        (pair.generate_ann.id, pair.understand_ann.id) for pair in pairs
    ]
    assert [pair.similarity for pair in pairs] == pytest.approx([one for _, _, one in expected], abs=1e-6)


def literal_feature(folder: Path, one: Quadruple, cache: Path) -> np.ndarray:
    rows = encode_features(
        [folder / path for path in one.image_paths], small, batch_size=8, cache=cache
    ).features
    return rows[0] if len(rows) == 1 else l2_normalise(np.mean(rows.astype(np.float64), axis=0)[None])[0]


def test_a_missing_image_of_several_drops_the_sample_and_is_named(tmp_path):
    settings = several_world(tmp_path)
    (tmp_path / "u" / "images" / "7.png").unlink()  # alone in u7, second in u4
    (tmp_path / "u" / "images" / "11.png").write_bytes(b"\x89PNG no")  # alone in u11, second in u8
    summary = build(settings)
    dropped = [json.loads(line) for line in (settings.out / "dropped.jsonl").read_text().splitlines()]
    assert {(one["id"], Path(one["image_path"]).name, one["reason"][:22]) for one in dropped} == {
        ("u4", "7.png", "the image is missing"),
        ("u7", "7.png", "the image is missing"),
        ("u8", "11.png", "the image is not a sup"),
        ("u11", "11.png", "the image is not a sup"),
    }
    assert summary.dropped == 4
    assert summary.quadruples == 76


def test_images_that_cancel_out_have_no_feature(tmp_path):
    for name, value in (("a", 255), ("b", 0)):
        Image.new("L", (4, 4), value).save(tmp_path / f"{name}.png")

    def signed(images: Any) -> np.ndarray:
        return np.array([[1.0 if image.getpixel((0, 0))[0] else -1.0, 0.0] for image in images], np.float32)

    paths = [tmp_path / f"{name}.png" for name in "aba"]
    encoded = encode_features(paths, signed, batch_size=4, cache=tmp_path / "c")
    found = of_samples(encoded, [2, 1])
    assert (found.kept, found.features.tolist()) == ([1], [[1.0, 0.0]])
    assert found.faults == {0: (0, "has a feature that those of the other images cancel out")}


def test_parts_are_split_built_and_joined(tmp_path):
    settings = several_world(tmp_path)
    split_raw(settings, small, 2)
    for folder in sorted((settings.out / "parts").iterdir()):
        if folder.is_dir():
            build(load_settings(PairsSettings, folder / "build.toml"))
    join_parts(settings.out)
    pairs = read_pairs(settings.out / "pairs.jsonl")
    assert list(iter_problems(settings.out / "pairs.jsonl")) == []
    assert any(len(pair.understand_ann.image_paths) == 2 for pair in pairs)
    quadruples = read_quadruples(settings.out / "quadruples.jsonl")
    assert sum(len(one.image_paths) == 2 for one in quadruples) == 10


# Pairings


def test_a_self_pair_has_one_image(tmp_path, caplog):
    caplog.set_level("INFO", "pairuni")
    pairs = some_pairs(tmp_path)
    made = apply_pairing(pairs, "understanding-only", seed=0)
    assert [pair.understand_ann.image_path for pair in made] == ["0.png"]
    assert "understanding-only: 2 samples left out, whose questions show several images" in caplog.text
    assert Counter(
        len(one.understand_ann.image_paths) for one in apply_pairing(pairs, "unpaired", seed=0)
    ) == {
        1: 1,
        2: 1,
        3: 1,
    }


def test_a_question_that_shares_an_image_with_a_held_out_one_is_excluded(tmp_path):
    pairs = some_pairs(tmp_path)
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, pairs)
    kept = load_pairing(path, "pairug", seed=0, held_out=[pairs[0]], sides=["understanding"])
    assert kept == [pairs[2]]
    kept = load_pairing(path, "pairug", seed=0, held_out=[pairs[2]], sides=["understanding"])
    assert kept == pairs[:2]
