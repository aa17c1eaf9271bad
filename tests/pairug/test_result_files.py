"""Pairs as files that others open: parquet with images inside, other forms and places, the card, the hub."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from fake_hub import FakeHub, Repository, use_hub
from pairuni.cli.app import app
from pairuni.pairug.dataset import publishing
from pairuni.pairug.dataset.card import card, write_card
from pairuni.pairug.dataset.conversion import convert_pairs
from pairuni.pairug.dataset.parquet import is_embedded
from pairuni.pairug.dataset.publishing import push_pairs, write_data_set
from pairuni.pairug.dataset.store import iter_problems, read_pairs, write_pairs
from pairuni.records import Annotation, UGPair


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def side(name: str, **more: object) -> Annotation:
    values = {"image_path": f"images/{name}.png", "prompt": f"a {name}", "question": "what?", "answer": name}
    return Annotation.model_validate({**values, "tag": "t", **more})


def data_set(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    for number, name in enumerate("abcd"):
        (folder / "images" / f"{name}.png").write_bytes(picture(number))
    pairs = [
        UGPair(similarity=1.0, generate_ann=side("a", origin="generation"), understand_ann=side("a")),
        UGPair(
            similarity=0.75,
            generate_ann=side("b", tag="JourneyDB|x", source="journey.tar:1", nested={"k": [1, None]}),
            understand_ann=side("c", source="orsta.parquet:3"),
        ),
        UGPair.model_validate(
            {"similarity": 0.5, "generate_ann": side("d"), "understand_ann": side("b"), "x": 1}
        ),
    ]
    write_pairs(folder / "pairs.jsonl", pairs)
    return folder / "pairs.jsonl"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_images_go_into_parquet_and_out_again(tmp_path):
    source = data_set(tmp_path / "one")
    packed = tmp_path / "packed" / "pairs.parquet"
    assert convert_pairs(source, packed, embed=True) == 3
    assert files(packed.parent).keys() == {"pairs.parquet"}
    assert is_embedded(packed)
    assert read_pairs(packed) == read_pairs(source)
    assert list(iter_problems(packed)) == []
    convert_pairs(packed, tmp_path / "two" / "pairs.jsonl")
    assert files(tmp_path / "two") == files(tmp_path / "one")
    convert_pairs(packed, tmp_path / "two" / "pairs.jsonl")
    convert_pairs(tmp_path / "two" / "pairs.jsonl", tmp_path / "three" / "pairs.parquet")
    assert not is_embedded(tmp_path / "three" / "pairs.parquet")
    assert list(iter_problems(tmp_path / "three" / "pairs.parquet")) == []
    assert read_pairs(tmp_path / "three" / "pairs.parquet") == read_pairs(source)


def test_what_stands_in_the_way_is_said_and_nothing_is_half_written(tmp_path):
    source = data_set(tmp_path / "one")
    convert_pairs(source, tmp_path / "p.parquet", embed=True)
    (tmp_path / "two" / "images").mkdir(parents=True)
    (tmp_path / "two" / "images" / "b.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"b\.png exists and is another file"):
        convert_pairs(tmp_path / "p.parquet", tmp_path / "two" / "pairs.jsonl")
    assert (tmp_path / "two" / "images" / "b.png").read_bytes() == b"mine"
    assert not (tmp_path / "two" / "pairs.jsonl").exists()
    with pytest.raises(ValueError, match=r"x\.jsonl.*\.parquet"):
        convert_pairs(source, tmp_path / "x.jsonl", embed=True)
    (tmp_path / "one" / "images" / "c.png").unlink()
    with pytest.raises(ValueError, match=r"pair 2, understand_ann.image_path: 'images/c\.png' is missing"):
        convert_pairs(source, tmp_path / "y.parquet", embed=True)
    assert not list(tmp_path.glob("*y.parquet*"))


def test_a_broken_image_inside_is_a_problem(tmp_path, monkeypatch):
    source = data_set(tmp_path / "one")
    (tmp_path / "one" / "images" / "c.png").write_bytes(b"\x89PNG no")
    with pytest.raises(ValueError, match=r"'images/c\.png' is not a supported image"):
        convert_pairs(source, tmp_path / "p.parquet", embed=True)
    monkeypatch.setattr(
        "pairuni.pairug.dataset.parquet.decode", lambda data: None
    )  # as another program writes it
    convert_pairs(source, tmp_path / "p.parquet", embed=True)
    (problem,) = iter_problems(tmp_path / "p.parquet")
    assert str(problem).startswith(f"{tmp_path / 'p.parquet'}, line 2, field understand_ann.image: ")


def test_datasets_opens_what_we_write(tmp_path):
    datasets = pytest.importorskip("datasets")
    source = data_set(tmp_path / "one")
    convert_pairs(source, tmp_path / "inside.parquet", embed=True)
    convert_pairs(source, tmp_path / "one" / "beside.parquet")

    def load(path: Path) -> list[dict]:
        return list(
            datasets.load_dataset(
                "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "c")
            )
        )

    inside, beside = load(tmp_path / "inside.parquet"), load(tmp_path / "one" / "beside.parquet")
    assert [row["similarity"] for row in inside] == [1.0, 0.75, 0.5]
    assert [row["kind"] for row in beside] == ["aligned", "retrieved", "retrieved"]
    image = inside[1]["understand_ann"]["image"]
    assert (image.size, image.getpixel((0, 0))) == ((8, 6), (2, 0, 0))
    texts = {name: value for name, value in inside[1]["generate_ann"].items() if name != "image"}
    assert texts == beside[1]["generate_ann"]
    assert texts["tag"] == "JourneyDB|x"
    assert json.loads(texts["extra"]) == {"source": "journey.tar:1", "nested": {"k": [1, None]}}


STATS = {
    "build": {"clusters": 5, "samples": 9, "quadruples": 8, "dropped": 1, "failed": 0},
    "settings": {
        "encoder": "policy:/home/me/secret/tower",
        "threshold": 0.6,
        "max_matches": 1,
        "seed": 3,
        "annotator": "endpoint",
        "completion": {"model": "Qwen/VL-7B", "verifier": None, "base_url": "http://10.0.0.7/v1"},
    },
    "completion": {
        "answers": 1234,
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "cost": 1.5,
        "prompts": "ab12",
    },
}


def test_the_card_tells_what_is_known_and_no_address(tmp_path):
    yaml = pytest.importorskip("yaml")
    pairs = read_pairs(data_set(tmp_path / "one"))
    text = card(pairs, STATS, data_files="pairs.jsonl", name='my "pairs": one')
    _, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["pretty_name"] == 'my "pairs": one'
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "pairs.jsonl"}]
    assert head["size_categories"] == ["n<1K"]
    assert "3 understanding-generation pairs (2 retrieved, 1 aligned) of 4 images" in body
    for row in (
        "| encoder | policy:tower |",
        "| threshold | 0.6 |",
        "| K, clusters | 5 |",
        "| n, max matches | 1 |",
        "| model | Qwen/VL-7B |",
        "| verified by | Qwen/VL-7B |",
        "| prompts | ab12 |",
        "| answers | 1,234 |",
        "| cost | 1.5 |",
        "| dropped (build) | 1 |",
        "| orsta.parquet | understanding | 1 |",
        "| journey.tar | generation | 1 |",
        r"| JourneyDB\|x | generation | 1 |",
    ):
        assert row in body, row
    assert "0.75 to 0.80          1  " + "#" * 40 in body
    assert "10.0.0.7" not in text
    assert "/home/me" not in text
    assert "How it was made" not in card(pairs, {}, data_files="x", name="x")


def test_a_card_of_ones_own_stays(tmp_path):
    pairs = read_pairs(data_set(tmp_path))
    path = write_card(tmp_path, pairs, data_files="pairs.jsonl", name="x")
    made = path.read_text()
    write_card(tmp_path, pairs[:2], data_files="pairs.jsonl", name="x")
    assert path.read_text() != made
    path.write_text("my own words")
    write_card(tmp_path, pairs, data_files="pairs.jsonl", name="x")
    assert path.read_text() == "my own words"


@pytest.fixture
def hub(monkeypatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        use_hub(server, monkeypatch)
        yield server
        server.shutdown()


def test_a_push_holds_images_and_card(tmp_path, monkeypatch, hub):
    source = data_set(tmp_path / "one")
    before = files(tmp_path / "one")
    monkeypatch.setattr(publishing, "SHARD_BYTES", 200)
    assert push_pairs(source, "me/pairs", private=True) == f"{hub.url}/datasets/me/pairs"
    assert hub.repositories["datasets/me/pairs"].private
    pushed = hub.files("datasets/me/pairs")
    shards = sorted(name for name in pushed if name != "README.md")
    assert shards == [f"data/train-0000{n}-of-00002.parquet" for n in range(2)]
    rows = [row for name in shards for row in pq.read_table(io.BytesIO(pushed[name])).to_pylist()]
    assert [row["similarity"] for row in rows] == [1.0, 0.75, 0.5]
    assert rows[2]["generate_ann"]["image"]["bytes"] == picture(3)
    assert '    path: "data/*.parquet"' in pushed["README.md"].decode()
    assert files(tmp_path / "one") == before, "nothing is left beside the file"

    write_data_set(source, "me/pairs", tmp_path / "shared")
    assert files(tmp_path / "shared") == pushed
    commits = list(hub.repositories["datasets/me/pairs"].commits)
    push_pairs(source, "me/pairs")
    assert hub.repositories["datasets/me/pairs"].commits == commits, "nothing has changed"

    convert_pairs(source, tmp_path / "in" / "pairs.parquet", embed=True)
    (tmp_path / "in" / "README.md").write_text('---\ntags:\n- pairuni\npath: "pairs.parquet"\n---\nmine')
    push_pairs(tmp_path / "in" / "pairs.parquet", "me/pairs")
    pushed = hub.files("datasets/me/pairs")
    assert pushed["README.md"].decode() == '---\ntags:\n- pairuni\npath: "data/*.parquet"\n---\nmine'
    assert set(pushed) == {"README.md", "data/train-00000-of-00001.parquet"}

    push_pairs(source, "me/pairs", revision="raw")
    assert set(hub.files("datasets/me/pairs", "raw")) == {"README.md", *shards}
    assert hub.files("datasets/me/pairs") == pushed


def test_a_push_that_fails_leaves_nothing_and_says_why(tmp_path, monkeypatch, hub):
    source = data_set(tmp_path / "one")
    before = files(tmp_path / "one")
    hub.uploads_left = 0
    with pytest.raises(OSError, match=r"the push to me/pairs failed: .*; the same command repeats it"):
        push_pairs(source, "me/pairs")
    hub.uploads_left = None
    push_pairs(source, "me/pairs")
    assert "data/train-00000-of-00001.parquet" in hub.files("datasets/me/pairs")

    foreign = {"data/mine.parquet": b"1", "README.md": b"---\ntags:\n- other\n---\nmine"}
    hub.repositories["datasets/me/other"] = Repository(branches={"main": dict(foreign)})
    with pytest.raises(ValueError, match="the data set me/other exists and was not pushed by pairuni"):
        push_pairs(source, "me/other")
    assert hub.files("datasets/me/other") == foreign

    (tmp_path / "one" / "images" / "d.png").unlink()
    with pytest.raises(ValueError, match=r"pair 3, generate_ann.image_path: 'images/d\.png' is missing"):
        push_pairs(source, "me/new")
    assert "datasets/me/new" not in hub.repositories, "the hub is asked when everything is ready"
    del before["images/d.png"]
    assert files(tmp_path / "one") == before


def test_the_commands(tmp_path, hub):
    source = data_set(tmp_path / "one")
    run = CliRunner().invoke
    made = run(app, ["pairs", "convert", str(source), str(tmp_path / "x.parquet"), "--embed"])
    assert made.output == f"3 pairs: {tmp_path / 'x.parquet'}\n"
    assert run(app, ["pairs", "check", str(tmp_path / "x.parquet")]).exit_code == 0
    refused = run(app, ["pairs", "gallery", str(tmp_path / "x.parquet")])
    assert refused.exit_code == 1
    assert f"pairuni pairs convert {tmp_path / 'x.parquet'} FOLDER/pairs.jsonl" in refused.output
    out = str(tmp_path / "shared")
    written = run(app, ["pairs", "push", str(source), "me/pairs", "--out", out])
    assert written.output == f"{out}: 3 pairs, as me/pairs would get them\n"
    assert run(app, ["pairs", "push", str(source), "me/pairs", "--out", out]).exit_code == 1
    assert not hub.repositories
    pushed = run(app, ["pairs", "push", str(source), "me/pairs"])
    assert pushed.stdout == f"{hub.url}/datasets/me/pairs\n"
    assert hub.files("datasets/me/pairs") == files(tmp_path / "shared")
