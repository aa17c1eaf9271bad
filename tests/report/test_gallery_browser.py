"""The gallery driven in a real browser. Needs playwright and Chromium: pip install pairuni[browser]."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import faults_of
from pairuni.records import Annotation, UGPair
from pairuni.report import write_gallery

pytestmark = pytest.mark.slow
TAGS = ["counting", "colour", "text", "scene"]
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
COUNT, NODES = 5000, 900
SECONDS = 10


def make_pairs(folder: Path) -> list[UGPair]:
    """COUNT pairs on 10,000 images that all differ: every third pair aligned, pair 1235 hostile."""
    rng = random.Random(0)
    folder.mkdir()
    for index in range(2 * COUNT):
        colour = (index % 256, index // 256 * 6, 128)
        Image.new("RGB", (24, 24), colour).save(folder / f"{index}.png")
    pairs = []
    for index in range(COUNT):
        tag = rng.choice(TAGS)
        und = Annotation(
            image_path=f"{index}.png",
            prompt=f"caption {index}",
            question=f"How many shapes has image {index}? A. one B. two",
            answer="AB"[index % 2],
            tag=tag,
        )
        gen = Annotation(
            image_path=f"{COUNT + index}.png",
            prompt=HOSTILE if index == 1234 else f"an image number {index} " + "of many words " * (index % 9),
            question="What?",
            answer="it",
            tag=rng.choice(TAGS),
        )
        aligned = index % 3 == 0
        similarity = 1.0 if aligned else round(0.6 + 0.39 * rng.random(), 4)
        pairs.append(UGPair(similarity=similarity, generate_ann=und if aligned else gen, understand_ann=und))
    return pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[UGPair]]:
    folder = tmp_path_factory.mktemp("gallery") / "data"
    pairs = make_pairs(folder)
    return write_gallery(pairs, folder, folder / "gallery", title="five thousand").page, pairs


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(request: Any, browser: Any, pairs: tuple[Path, list[UGPair]]) -> Iterator[Any]:
    """The gallery opened from disk; fails at the end on any console error or network request."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    said = faults_of(page)
    requested: list[str] = []
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(pairs[0].as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    yield page
    assert said == []
    assert requested
    assert [url for url in requested if not url.startswith(("file:", "data:"))] == []
    context.close()


def nodes(page: Any) -> int:
    return int(page.evaluate("document.querySelectorAll('*').length"))


def count(page: Any) -> str:
    return str(page.inner_text("#count"))


def settle(page: Any) -> None:
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def until(page: Any, expression: str) -> None:
    """Wait for an expression to hold; playwright's own wait evaluates text, which the page's policy forbids."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        time.sleep(0.02)


def first_numbers(page: Any, most: int) -> list[int]:
    words = page.locator(".pair-card a").all_inner_texts()[:most]
    return [int(word.removeprefix("Pair ").replace(",", "")) for word in words]


def test_it_keeps_few_nodes_while_scrolling(page: Any) -> None:
    assert count(page) == "5,000 pairs"
    most = nodes(page)
    bottom = page.evaluate("document.documentElement.scrollHeight")
    assert bottom > 200_000
    for step in range(1, 41):
        page.evaluate(f"window.scrollTo({{top: {bottom * step // 40}, behavior: 'instant'}})")
        settle(page)
        assert page.evaluate(
            "(() => { const y = innerHeight - 40;"
            " return [...document.querySelectorAll('.pair-card')].some(card => {"
            " const box = card.getBoundingClientRect(); return box.top < y && box.bottom > 0; }) })()"
        ), f"nothing is shown at {step}/40"
        most = max(most, nodes(page))
    assert most < NODES
    assert first_numbers(page, 99)[-1] == COUNT
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    images = "[...document.querySelectorAll('.pair-card img')]"
    until(page, f"{images}.every(image => image.complete)")
    assert page.evaluate(f"{images}.every(image => image.naturalWidth === 24)")


def test_cards_do_not_overlap(page: Any) -> None:
    page.evaluate("window.scrollTo({top: 20000, behavior: 'instant'})")
    settle(page)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.pair-card')].map(card => card.getBoundingClientRect().toJSON())"
    )
    assert len({round(box["height"]) for box in boxes}) == 1
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            apart = (
                one["right"] <= other["left"]
                or other["right"] <= one["left"]
                or one["bottom"] <= other["top"]
                or other["bottom"] <= one["top"]
            )
            assert apart


def test_filters(page: Any, pairs: tuple[Path, list[UGPair]]) -> None:
    _, made = pairs
    aligned = sum(pair.kind == "aligned" for pair in made)
    page.locator(".kinds label", has_text="aligned").click()
    assert count(page) == f"{aligned:,} of 5,000 pairs"
    assert first_numbers(page, 2) == [1, 4]
    page.locator(".kinds label", has_text="retrieved").click()
    assert count(page) == f"{COUNT - aligned:,} of 5,000 pairs"

    tagged = [
        pair
        for pair in made
        if pair.kind == "retrieved" and "text" in (pair.understand_ann.tag, pair.generate_ann.tag)
    ]
    option = page.locator("#tag option", has_text="text ·").get_attribute("value")
    page.select_option("#tag", option)
    assert count(page) == f"{len(tagged):,} of 5,000 pairs"
    assert f"Bars: {len(tagged):,} retrieved pairs" in page.inner_text("#bars-note")

    page.focus("#low")
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#range") == "0.75 to 1.00"
    near = [pair for pair in tagged if pair.similarity >= 0.75]
    assert count(page) == f"{len(near):,} of 5,000 pairs"

    page.select_option("#order", "rising")
    least = min(near, key=lambda pair: pair.similarity)
    assert first_numbers(page, 1) == [made.index(least) + 1]

    page.click("#clear")
    assert count(page) == "5,000 pairs"
    assert first_numbers(page, 2) == [1, 2]
    assert page.is_hidden("#clear")


def test_the_handles_can_be_dragged(page: Any, pairs: tuple[Path, list[UGPair]]) -> None:
    box = page.locator(".sliders").bounding_box()
    y = box["y"] + 1
    page.mouse.move(box["x"] + box["width"] - 10, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, y, steps=5)
    page.mouse.up()
    low, high = (float(word) for word in page.inner_text("#range").split(" to "))
    assert low == 0.6
    assert 0.78 <= high <= 0.82
    left = sum(pair.similarity <= high for pair in pairs[1])
    assert count(page) == f"{left:,} of 5,000 pairs"


def test_search(page: Any) -> None:
    page.fill("#words", "NUMBER 4321")
    until(page, "document.getElementById('count').textContent === '1 of 5,000 pairs'")
    assert first_numbers(page, 9) == [4322]
    page.fill("#words", "no such words")
    until(page, "!document.getElementById('none').hidden")
    assert count(page) == "0 of 5,000 pairs"
    page.fill("#words", "")
    until(page, "document.getElementById('count').textContent === '5,000 pairs'")


def test_markup_is_harmless(page: Any) -> None:
    page.evaluate("location.hash = '#pair-1235'")
    page.wait_for_selector("dialog[open]")
    page.locator("dialog dd", has_text="<script>").wait_for()
    assert page.evaluate("window.hacked") is None
    page.click("#close")
    until(page, "!location.hash")  # the page goes to the card after the dialog has closed
    assert page.locator(".pair-card .said", has_text="<script>").count() == 1
    assert page.evaluate("window.hacked") is None


def test_a_link_to_a_pair(page: Any, pairs: tuple[Path, list[UGPair]]) -> None:
    page.goto("about:blank")
    page.goto(pairs[0].as_uri() + "#pair-4000")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("#pair-title") == "Pair 4,000"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#pair-title") == "Pair 4,001"
    assert page.url.endswith("#pair-4001")
    page.keyboard.press("Escape")
    until(page, "!location.hash")
    assert page.is_hidden("dialog")
    assert page.evaluate("document.activeElement.textContent") == "Pair 4,001"
    page.evaluate("location.hash = '#pair-99999'")
    settle(page)
    assert page.is_hidden("dialog")


def test_keyboard_navigation(page: Any) -> None:
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.pair-card') !== null"):
            break
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused) == "Pair 1"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "Pair 2"
    page.keyboard.press("End")
    assert page.evaluate(focused) == "Pair 5,000"
    box = page.evaluate("document.activeElement.closest('.pair-card').getBoundingClientRect().toJSON()")
    assert box["top"] >= 0
    assert box["bottom"] <= page.viewport_size["height"]
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("#pair-title") == "Pair 5,000"
    assert page.is_disabled("#after")
    page.keyboard.press("Escape")
    until(page, "!location.hash")
    page.keyboard.press("Home")
    assert page.evaluate(focused) == "Pair 1"
    page.mouse.wheel(0, 30000)
    time.sleep(0.3)
    settle(page)
    assert page.evaluate(focused) == "Pair 1"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == "Pair 2"


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = parse(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.disabled || node.closest("svg, script, style")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const where = `${node.tagName}.${node.className}`;
    if (ratio < 4.5) low.push(`${where} ${ratio.toFixed(2)}: ${node.textContent.slice(0, 30)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_names(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.evaluate("location.hash = '#pair-2'")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate(CONTRAST) == []
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, button, img, [role=img]')].filter(node =>"
        " !(node.labels?.length || node.getAttribute('aria-label') || node.alt || node.textContent.trim()))"
        ".map(node => node.outerHTML)"
    )
    assert unnamed == []


def test_single_page(browser: Any, pairs: tuple[Path, list[UGPair]], tmp_path: Path) -> None:
    folder = pairs[0].parent.parent
    single = write_gallery(pairs[1], folder, tmp_path / "single.html", title="single", most=200).page
    page = browser.new_page()
    said = faults_of(page)
    page.goto(single.as_uri())
    assert count(page) == "200 pairs"
    until(page, "[...document.querySelectorAll('img')].every(image => image.naturalWidth === 24)")
    assert first_numbers(page, 2) == [1, 26]
    assert said == []
    page.close()


def test_images_of_one_question_share_its_square(browser: Any, tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(12)]
    for index, name in enumerate(names):
        Image.new("RGB", (40, 20 + 10 * index), (20 * index, 90, 160)).save(tmp_path / name)
    texts = {"prompt": "p", "question": "which differs?", "answer": "A", "tag": ""}
    drawn = Annotation(image_path="0.png", **texts)
    pairs = [
        UGPair(
            similarity=0.7, generate_ann=drawn, understand_ann=Annotation(image_paths=names[:count], **texts)
        )
        for count in (2, 3, 6, 12)
    ]
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said = faults_of(page)
    page.goto(write_gallery(pairs, tmp_path, tmp_path / "out", title="several").page.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    for number, count in enumerate((2, 3, 6, 12)):
        shown = page.locator(".pair-card").nth(number).locator(".understanding")
        assert shown.locator("img").count() == count
        boxes = shown.locator("img").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().toJSON())"
        )
        square = shown.locator(".several").evaluate("one => one.getBoundingClientRect().toJSON()")
        assert abs(square["width"] - square["height"]) < 1
        for box in boxes:
            assert box["width"] > 15
            assert square["top"] - 1 <= box["top"]
            assert box["bottom"] <= square["bottom"] + 1
    page.goto(f"{page.url}#pair-3")
    assert page.locator("#sides .understanding img").count() == 6
    assert page.locator("#sides .understanding .path").all_inner_texts() == names[:6]
    assert said == []
    context.close()
