"""Pair files as the app shows them."""

from pathlib import Path

import pytest
from PIL import Image

from pairuni.app.pair_browser import PER_PAGE, PairBrowser
from pairuni.pairug.dataset.store import read_pairs, write_pairs
from pairuni.records import Annotation, UGPair


def side(index: int, **values: str) -> Annotation:
    given = {
        "prompt": f"prompt {index}",
        "question": "how many?",
        "answer": "A",
        "tag": f"tag {index % 2}",
        **values,
    }
    return Annotation(image_path=f"{index}.png", **given)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """30 pairs, of which the first ten are aligned; the third is hostile."""
    for index in range(31):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index}.png")
    pairs = []
    for index in range(30):
        und = side(index, answer="<script>alert(1)</script>" if index == 2 else "A")
        aligned = index < 10
        pairs.append(
            UGPair(
                similarity=1.0 if aligned else 0.6 + index / 100,
                understand_ann=und,
                generate_ann=und if aligned else side(index + 1),
            )
        )
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    return tmp_path / "pairs.jsonl"


def shown(cards: str) -> list[int]:
    return [int(part.split(" ")[0]) for part in cards.split(">pair ")[1:]]


def test_pages(file: Path) -> None:
    browser = PairBrowser(file)
    first = browser.find()
    assert (first.page, first.pages, first.tags) == (1, 3, ("tag 0", "tag 1"))
    assert "<b>30</b> pairs: 10 aligned, 20 retrieved" in first.summary
    assert shown(first.cards) == list(range(1, PER_PAGE + 1))
    assert first.cards.count("data:image/png") == 2 * PER_PAGE
    assert "<script>" not in first.cards
    assert "&lt;script&gt;" in first.cards
    assert shown(browser.find(page=3).cards) == list(range(25, 31))
    assert browser.find(page=99).page == 3
    assert browser.find(page=-4).page == 1


def test_filters_and_order(file: Path) -> None:
    browser = PairBrowser(file)
    assert shown(browser.find(words="PROMPT 29").cards) == [29, 30]
    assert "<b>20</b> of 30 pairs" in browser.find(kind="retrieved").summary
    assert "0 retrieved" in browser.find(kind="aligned").summary
    assert shown(browser.find(kind="aligned", tag="tag 1").cards) == [2, 4, 6, 8, 10]
    assert shown(browser.find(kind="retrieved", order="least similar first").cards)[:2] == [11, 12]
    assert shown(browser.find(kind="retrieved", order="most similar first").cards)[:2] == [30, 29]
    nothing = browser.find(words="zebra")
    assert (nothing.cards, nothing.page, nothing.pages) == ("", 1, 1)
    assert "None of the 30 pairs" in nothing.summary


def test_a_file_is_read_again_when_it_changes(file: Path) -> None:
    browser = PairBrowser(file)
    browser.find()
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:5]))
    assert browser.find().summary.startswith("<p><b>5</b> pairs")


def test_faults_are_sentences(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.jsonl: there is no such file yet"):
        PairBrowser(tmp_path / "none.jsonl").find()
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 1"):
        PairBrowser(tmp_path / "bad.jsonl").find()
    write_pairs(tmp_path / "inside.parquet", read_pairs(file), embed=tmp_path)
    with pytest.raises(
        ValueError, match=r"inside\.parquet contains its images, but they are needed as files"
    ):
        PairBrowser(tmp_path / "inside.parquet").find()
    (tmp_path / "4.png").unlink()
    found = PairBrowser(file).find()
    assert "were not found" in found.summary
    assert "pairs check" in found.summary


def test_questions_about_several_images(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / f"{index}.png")
    und = Annotation(image_paths=("0.png", "1.png"), prompt="two", question="which?", answer="A")
    write_pairs(tmp_path / "pairs.jsonl", [UGPair(similarity=0.7, understand_ann=und, generate_ann=side(2))])
    browser = PairBrowser(tmp_path / "pairs.jsonl")
    found = browser.find(words="1.png")
    assert found.cards.count("data:image/png") == 3
    assert "0.png, 1.png" in found.cards
