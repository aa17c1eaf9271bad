import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pairuni.cli.app import app
from pairuni.pairug.dataset.store import write_pairs
from pairuni.records import Annotation, UGPair
from pairuni.report import gallery_images, write_gallery

HOSTILE = '</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> & "{{data}}"'


def side(image: str, **values: str) -> Annotation:
    words = {"prompt": f"prompt of {image}", "question": "how many?", "answer": "two", "tag": "count"}
    return Annotation(image_path=image, **(words | values))


def pair(similarity: float, generation: Annotation, understanding: Annotation) -> UGPair:
    return UGPair(similarity=similarity, generate_ann=generation, understand_ann=understanding)


def save_image(folder: Path, name: str, size: tuple[int, int] = (32, 32), shade: int = 0) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 80, 120)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "pairug"
    for index in range(6):
        save_image(folder, f"images/{index}.png", shade=40 * index)
    save_image(folder, "images/wide.png", (900, 300))
    return folder


@pytest.fixture
def pairs() -> list[UGPair]:
    first = side("images/0.png")
    return [
        pair(1.0, first, first),
        pair(0.82, side("images/1.png", tag="colour"), side("images/2.png")),
        pair(0.61, side("images/wide.png", prompt=HOSTILE), side("images/3.png", question="größer? 二 <3>")),
        pair(0.7, side("images/gone.png", tag=""), side("images/0.png")),
    ]


def embedded_data(page: Path) -> dict[str, Any]:
    """The data of a page, parsed up to the first closing script tag, as a browser does."""
    text = page.read_text(encoding="utf-8").split('<script type="application/json" id="data">')[1]
    parsed: dict[str, Any] = json.loads(text.split("</script")[0])
    return parsed


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_page_contains_every_pair(data: Path, pairs: list[UGPair], tmp_path: Path) -> None:
    made = write_gallery(pairs, data, tmp_path / "out", title="pairs.jsonl")
    assert (made.page, made.shown, made.total, made.missing) == (tmp_path / "out" / "gallery.html", 4, 4, 1)
    found = embedded_data(made.page)
    for number, (one, row) in enumerate(zip(pairs, found["pairs"], strict=True), start=1):
        assert row[:2] == [number, one.similarity]
        for annotation, place in ((one.understand_ann, row[2]), (one.generate_ann, row[3])):
            image, prompt, question, answer, tag = found["sides"][place]
            assert found["paths"][image] == annotation.image_path
            assert [prompt, question, answer] == [annotation.prompt, annotation.question, annotation.answer]
            assert found["tags"][tag] == annotation.tag
    assert (
        len(found["sides"]) == 6
    )  # the two sides of the aligned pair and the question side of the last pair are the same
    words = html.unescape(re.sub(r"<[^>]*>", " ", made.page.read_text().split("<noscript>")[0]))
    assert re.search(
        r"aligned\s+1\s+retrieved\s+3\s+mean similarity of retrieved pairs\s+0\.710\s+images\s+6\s", words
    )
    assert re.search(r"images not found\s+1\s", words)


def test_a_question_of_several_images_has_them_all(data: Path, tmp_path: Path) -> None:
    asked = side("images/1.png").with_images(["images/1.png", "images/2.png", "images/wide.png"])
    one = pair(0.8, side("images/1.png"), asked)
    made = write_gallery([one], data, tmp_path / "out", title="t")
    found = embedded_data(made.page)
    assert [row[0] for row in found["sides"]] == [[0, 1, 2], 0]
    assert found["paths"] == ["images/1.png", "images/2.png", "images/wide.png"]
    assert made.missing == 0
    words = re.sub(r"<[^>]*>", " ", made.page.read_text().split("<noscript>")[0])
    assert re.search(r"aligned\s+0\s+retrieved\s+1\s", words)


def test_thumbnails_are_named_by_digest(data: Path, pairs: list[UGPair], tmp_path: Path) -> None:
    page = write_gallery(pairs, data, tmp_path / "out", title="t").page
    found = embedded_data(page)
    by_path = dict(zip(found["paths"], found["images"], strict=True))
    assert by_path["images/gone.png"] is None
    for path, image in by_path.items():
        if image is None:
            continue
        file = page.parent / image[0]
        assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()[:20]
        with Image.open(file) as shown:
            assert shown.size == tuple(image[1:]) == ((320, 107) if path.endswith("wide.png") else (32, 32))
    assert len(names(tmp_path / "out" / "gallery-pictures")) == 5


def test_a_single_page_embeds_its_images(data: Path, pairs: list[UGPair], tmp_path: Path) -> None:
    page = write_gallery(pairs, data, tmp_path / "one" / "page.html", title="t").page
    assert names(tmp_path / "one") == ["page.html"]
    found = embedded_data(page)
    source = dict(zip(found["paths"], found["images"], strict=True))["images/2.png"][0]
    assert source.startswith("data:image/png;base64,")
    assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")
    assert "img-src data:;" in page.read_text()


def test_markup_in_data_is_text(data: Path, tmp_path: Path) -> None:
    bad = [pair(0.5, side("images/1.png", prompt=HOSTILE, tag=HOSTILE), side("images/2.png", answer=HOSTILE))]
    page = write_gallery(bad, data, tmp_path / "out", title=HOSTILE).page
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script") == 2
    assert "onerror=alert(1)>" not in text
    assert text.count("<!--") == 0
    assert [row[1] for row in embedded_data(page)["sides"]] == ["prompt of images/2.png", HOSTILE]
    assert embedded_data(page)["tags"] == ["count", HOSTILE]
    assert html.unescape(re.findall(r"<h1>(.*?)</h1>", text)[0]) == HOSTILE


def test_policy_admits_only_the_script_and_style_of_the_page(
    data: Path, pairs: list[UGPair], tmp_path: Path
) -> None:
    text = write_gallery(pairs, data, tmp_path / "out", title="t").page.read_text(encoding="utf-8")
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0]
    assert policy.startswith("default-src 'none'; img-src 'self' file:;")
    assert "unsafe" not in policy
    for tag, kind in (("script", "script-src"), ("style", "style-src")):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)[0]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert not re.search(r'(?:src|href)="', text)
    script = re.findall(r"<script>(.*?)</script>", text, re.S)[0]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(", script)
    assert set(re.findall(r"https?://[\w.]+", text)) == {"http://www.w3.org"}  # the SVG namespace


def test_rewriting_is_deterministic_and_removes_unused_thumbnails(
    data: Path, pairs: list[UGPair], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    page = write_gallery(pairs, data, out, title="t").page
    first = page.read_bytes()
    thumbnails = names(out / "gallery-pictures")
    (out / "gallery-pictures" / "mine.png").write_bytes(b"mine")
    (out / "gallery-pictures" / thumbnails[0]).write_bytes(b"cut")
    assert write_gallery(pairs, data, out, title="t").page.read_bytes() == first
    assert (out / "gallery-pictures" / thumbnails[0]).stat().st_size > 3
    write_gallery(pairs[:1], data, out, title="t")
    assert len(names(out / "gallery-pictures")) == 2
    assert (out / "gallery-pictures" / "mine.png").read_bytes() == b"mine"
    assert names(out) == ["gallery-pictures", "gallery.html"]


def test_a_failure_keeps_the_old_page_and_its_images(
    data: Path, pairs: list[UGPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    page = write_gallery(pairs[:2], data, out, title="t").page
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    replace, calls = os.replace, []

    def full(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(gallery_images.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_gallery(pairs, data, out, title="t")
    assert embedded_data(page)
    assert {path: path.read_bytes() for path in before} == before
    assert [path for path in out.rglob("*") if path.name.endswith(".partial")] == []


def test_limited_pairs_are_evenly_spaced(data: Path, tmp_path: Path) -> None:
    many = [pair(0.5 + index / 1000, side("images/1.png"), side("images/2.png")) for index in range(100)]
    made = write_gallery(many, data, tmp_path / "out", title="t", most=7)
    assert (made.shown, made.total) == (7, 100)
    found = embedded_data(made.page)["pairs"]
    assert [row[0] for row in found] == [1, 15, 29, 43, 58, 72, 86]
    assert [row[1] for row in found] == [many[row[0] - 1].similarity for row in found]
    assert "7 of 100" in made.page.read_text()


def test_invalid_input_is_refused(
    data: Path, pairs: list[UGPair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no pairs"):
        write_gallery([], data, tmp_path / "out", title="t")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        write_gallery(pairs, data, tmp_path / "file", title="t")
    (tmp_path / "dir.html").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        write_gallery(pairs, data, tmp_path / "dir.html", title="t")
    monkeypatch.setattr("pairuni.report.gallery.MOST_EMBEDDED", 500)
    with pytest.raises(ValueError, match="too large for one page"):
        write_gallery(pairs, data, tmp_path / "page.html", title="t")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_command(data: Path, pairs: list[UGPair], suffix: str) -> None:
    file = data / f"pairs{suffix}"
    write_pairs(file, pairs)
    result = CliRunner().invoke(app, ["pairs", "gallery", str(file)])
    assert result.exit_code == 0, result.output
    page = data / "gallery" / "gallery.html"
    assert f"4 of 4 pairs: {page}" in result.stdout
    assert "images not found: 1; pairs check names them" in result.stderr
    assert len(embedded_data(page)["pairs"]) == 4
    result = CliRunner().invoke(
        app, ["pairs", "gallery", str(file), "--out", str(data / "few.html"), "--most", "2"]
    )
    assert f"2 of 4 pairs: {data / 'few.html'}" in result.stdout


def test_the_command_names_the_bad_line(data: Path, pairs: list[UGPair]) -> None:
    file = data / "pairs.jsonl"
    write_pairs(file, pairs)
    with file.open("a") as lines:
        lines.write('{"similarity": 2}\n')
    result = CliRunner().invoke(app, ["pairs", "gallery", str(file)])
    assert result.exit_code == 1
    assert "pairs.jsonl, line 5" in result.stderr
    assert not (data / "gallery").exists()
