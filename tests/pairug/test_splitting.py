"""A corpus in parts: each sample is in one part, with its features; parts are built separately and joined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_build_sources import png

from colour_world import build, rows_of, small, world, write_rows
from pairuni.config import CompletionSettings, PairsSettings, load_settings
from pairuni.pairug.dataset.store import iter_problems, read_pairs, read_quadruples
from pairuni.pairug.scale import splitting
from pairuni.pairug.scale.joining import join_parts
from pairuni.pairug.scale.splitting import split_raw
from pairuni.pairug.selection import features
from source_data import orsta_row, read_generation, read_understanding


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (features, splitting):
        monkeypatch.setattr(module, "SHARD", 8)


class Counting:
    """An encoder that says how many images it was given."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images += len(images)
        return small(images)


def part_folders(settings: PairsSettings) -> list[Path]:
    return sorted(path for path in (settings.out / "parts").iterdir() if path.is_dir())


def test_parts_are_alike_complete_and_join_to_one_file(tmp_path):
    settings = world(tmp_path)
    told: list[tuple[int, int]] = []
    sizes = split_raw(settings, small, 3, lambda *progress: told.append(progress))
    folders = part_folders(settings)
    assert sum(done for done, _ in told) == 80
    assert [folder.name for folder in folders] == ["000", "001", "002"]
    tags = [
        {row["tag"] for side in ("understanding", "generation") for row in rows_of(folder / f"{side}.jsonl")}
        for folder in folders
    ]
    assert sorted(map(sorted, tags)) == [["blue"], ["green"], ["red"]]
    assert sum(size.total() for size in sizes) == 80

    with pytest.raises(
        ValueError, match=r"parts/000 has no pairs yet: pairuni pairs build .*000/build\.toml"
    ):
        join_parts(settings.out)
    made = 0
    for folder in folders:
        own = load_settings(PairsSettings, folder / "build.toml", [])
        assert 1 <= (own.clusters or 0) <= 2, "a part has its share of K"
        encoder = Counting()
        made += build(own, encoder=encoder).pairs
        assert encoder.images == 1, "one to know the encoder by"
    described = folders[0] / "stats.json"
    told_by_one = json.loads(described.read_text())
    described.write_text(json.dumps({**told_by_one, "pictures": {"frames": 2}}))
    assert join_parts(settings.out) == made
    assert json.loads((settings.out / "stats.json").read_text())["pictures"] == {"frames": 2}
    joined = settings.out / "pairs.jsonl"
    assert list(iter_problems(joined)) == []
    pairs = read_pairs(joined)
    assert len(pairs) == made
    used = [{pair.generate_ann.image_path, pair.understand_ann.image_path} for pair in pairs]
    assert sum(map(len, used)) == len(set().union(*used))
    stats = json.loads((settings.out / "stats.json").read_text())
    own = [json.loads((folder / "stats.json").read_text()) for folder in folders]
    for name in ("samples", "quadruples", "dropped", "pairs", "tries"):
        assert stats["build"][name] == sum(part["build"][name] for part in own) >= 0
    assert (stats["pairs"], stats["parts"]) == (made, len(folders))
    quadruples = read_quadruples(settings.out / "quadruples.jsonl")
    assert len(quadruples) == stats["build"]["quadruples"] == 80
    assert all((settings.out / one.image_path).is_file() for one in quadruples)
    card = (settings.out / "README.md").read_text()
    assert f"{made:,} understanding-generation pairs" in card
    assert "| threshold |" in card


def test_a_part_pairs_as_a_build_of_its_samples_without_a_cache(tmp_path):
    settings = world(tmp_path)
    split_raw(settings, small, 2)
    folder = part_folders(settings)[0]
    own = load_settings(PairsSettings, folder / "build.toml", [])
    build(own)
    uncached = own.model_copy(update={"out": tmp_path / "uncached"})
    build(uncached)

    def chosen(path: Path) -> list[tuple[float, str, str]]:
        return [
            (pair.similarity, pair.generate_ann.id, pair.understand_ann.id)
            for pair in read_pairs(path / "pairs.jsonl")
        ]

    assert chosen(folder) == chosen(tmp_path / "uncached")


def test_samples_of_any_form_are_the_same_in_their_part(tmp_path):
    pq.write_table(
        pa.Table.from_pylist([orsta_row(images=[{"bytes": png(n), "path": None}]) for n in range(3)]),
        tmp_path / "orsta.parquet",
    )
    for number in range(3, 8):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a slope"}]
    write_rows(tmp_path / "talk.jsonl", [{"image": "3.png", "conversations": talk}])
    choice = {"question": "which?", "options": ["dark", "bright"], "answer": "bright", "level": 2}
    write_rows(tmp_path / "choice.jsonl", [{"image": "4.png", **choice}])
    captions = [{"image": f"{n}.png", "captions": ["a slope", "a hill"], "id": n} for n in range(5, 8)]
    write_rows(tmp_path / "g.jsonl", captions)
    settings = PairsSettings(
        understanding=[str(tmp_path / name) for name in ("orsta.parquet", "talk.jsonl", "choice.jsonl")],
        generation=[str(tmp_path / "g.jsonl")],
        out=tmp_path / "out",
    )
    split_raw(settings, small, 1)
    own = load_settings(PairsSettings, settings.out / "parts" / "000" / "build.toml", [])
    for read, whole, part in (
        (read_understanding, settings.understanding, own.understanding),
        (read_generation, settings.generation, own.generation),
    ):
        before, after = read(whole, settings.out / "images"), read(part)
        assert [Path(one.image_path).read_bytes() for one in after] == [
            Path(one.image_path).read_bytes() for one in before
        ]
        hidden = {"image_path", "options"}
        assert [one.model_dump(exclude=hidden) for one in after] == [
            one.model_dump(exclude=hidden) for one in before
        ]


def test_what_cannot_be_used_is_named_by_the_first_part(tmp_path):
    settings = world(tmp_path)
    (tmp_path / "u" / "images" / "4.png").unlink()
    (tmp_path / "g" / "images" / "5.png").write_bytes(b"no image")
    with (tmp_path / "g" / "data.jsonl").open("a") as lines:
        lines.write("{}\n")
    split_raw(settings.model_copy(update={"bad_records": "drop"}), small, 3)
    first, *others = part_folders(settings)
    own = load_settings(PairsSettings, first / "build.toml", [])
    build(own)
    assert {row["id"] for row in rows_of(first / "dropped.jsonl")} == {"u4", "g5"}
    assert not any(
        {"u4", "g5"}
        & {row["id"] for side in ("understanding", "generation") for row in rows_of(one / f"{side}.jsonl")}
        for one in others
    )
    (bad,) = map(json.loads, (settings.out / "parts" / "dropped.jsonl").read_text().splitlines())
    assert "line 41, field image_path: is missing" in bad["reason"]


def test_images_of_one_corpus_alone_go_to_the_nearest_part(tmp_path):
    settings = world(tmp_path)
    rows = [row for row in rows_of(tmp_path / "g" / "data.jsonl") if row["tag"] != "blue"]
    write_rows(tmp_path / "g" / "data.jsonl", rows)
    sizes = split_raw(settings, small, 3)
    assert len(sizes) == 2
    assert all(size["understanding"] > 0 < size["generation"] for size in sizes)
    assert sum(size.total() for size in sizes) == 40 + len(rows)


def test_what_cannot_be_split_is_a_sentence(tmp_path):
    settings = world(tmp_path, count=4)
    budget = settings.model_copy(update={"completion": CompletionSettings(max_calls=3)})
    with pytest.raises(ValueError, match="a budget applies to one build"):
        split_raw(budget, small, 2)
    split_raw(settings, small, 1)
    with pytest.raises(ValueError, match="exists already"):
        split_raw(settings, small, 1)
    with pytest.raises(ValueError, match="has no parts"):
        join_parts(tmp_path)
