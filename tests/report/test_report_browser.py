"""The report in a real browser: only its own style and script work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from browser import faults_of
from fake_run import write_fake_run
from pairuni.report import write_report
from pairuni.report.axes import number

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str]]]:
    run = write_fake_run(tmp_path_factory.mktemp("runs") / "run", steps=40, items=12, pairs=12)
    samples = run / "samples/samples.jsonl"
    rows = [json.loads(line) for line in samples.read_text().split("\n")[:-1]]
    for row in rows:
        row["prompt"] = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page_file = write_report(run)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said = faults_of(page)
    page.goto(page_file.as_uri())
    yield page, said
    page.close()


def test_data_is_never_executed(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    page.wait_for_timeout(300)
    assert said == []
    assert page.evaluate("window.hacked") is None
    assert page.locator("text=onerror").count() > 0


def test_elements_are_placed_as_declared(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    for selector, side in (
        (".mark", "left"),
        (".x-axis > span", "left"),
        (".grid", "bottom"),
        (".whisker", "width"),
    ):
        found = page.evaluate(
            """([selector, side]) => [...document.querySelectorAll(selector)].map((one) => {
                const box = one.offsetParent.getBoundingClientRect();
                const size = side === "bottom" ? box.height : box.width;
                const wanted = new RegExp(`${side}:([-0-9.]+)%`).exec(one.dataset.at)[1] * size / 100;
                return [parseFloat(getComputedStyle(one)[side]), wanted];
            })""",
            [selector, side],
        )
        assert len(found) > 3, selector
        for got, wanted in found:
            assert abs(got - wanted) < 1.5, (selector, got, wanted)
    widths = page.evaluate(
        "[...document.querySelectorAll('.bar')].map((one) => one.getBoundingClientRect().width)"
    )
    assert len(set(map(round, widths))) > 3


def test_images_of_a_row_are_side_by_side_whatever_is_below_them(
    browser: Any, opened: tuple[Any, list[str]]
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(opened[0].url)
    page.evaluate(
        """() => {
            const captions = [...document.querySelectorAll(".images .image-pair figcaption")];
            captions.forEach((one, index) => one.append(" detected: a red seven".repeat(index % 3)));
            const prompts = document.querySelectorAll(".images .image-pair p");
            prompts.forEach((one, index) => one.append(" and a blue two".repeat(3 * (index % 2))));
        }"""
    )
    rows = page.evaluate(
        """() => [...document.querySelectorAll(".images")].map((list) => {
            const tops = new Map();
            for (const item of list.querySelectorAll(".image-pair")) {
                const row = Math.round(item.getBoundingClientRect().top);
                const images = [...item.querySelectorAll(".image")].map((one) => one.getBoundingClientRect().top);
                tops.set(row, [...(tops.get(row) || []), ...images.map(Math.round)]);
            }
            return [...tops.values()];
        })"""
    )
    page.close()
    counts = [len(tops) for group in rows for tops in group]
    assert max(counts) > 2, counts  # some row has several pairs
    assert all(len(set(tops)) == 1 for group in rows for tops in group), rows


def test_curves_can_be_read_with_the_keyboard(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    plot = page.locator("[data-chart]").first
    plot.focus()
    page.keyboard.press("Home")
    assert "step 1:" in plot.get_attribute("aria-valuetext")
    assert plot.locator(".cursor").is_visible()
    assert said == []


def test_curves_show_the_pointers_step_and_numbers_as_python_does(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    values = [0, 0.61349, 12.44, 999.7, 1204.2, 1234567.0, 1.2e-6, -1e-4, 1e-4, 2e15, 0.001, 5e-324]
    assert page.evaluate("(values) => values.map(number)", values) == [number(value) for value in values]
    plot = page.locator("[data-chart]").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 9 / 39, box["y"] + 20)
    readout = page.locator(".readout").first
    chart = json.loads(plot.get_attribute("data-chart"))
    shown = f"{number(chart['lines'][0]['values'][9])}, smoothed {number(chart['lines'][0]['smooth'][9])}"
    assert readout.inner_text().split("\n") == [f"step 10 {shown}"]
    assert said == []


def test_images_enlarge_to_whole_pixels_and_close(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    page.locator("#rollouts .enlarge").first.click()
    dialog = page.locator("dialog.enlarged")
    large = dialog.locator("img")
    assert large.bounding_box()["width"] == 32 * (900 * 8 // 10 // 32)
    assert large.evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"
    first = large.get_attribute("src")
    assert dialog.locator("p").inner_text().startswith("1 of 32: rollout for")
    page.keyboard.press("ArrowRight")
    assert dialog.locator("p").inner_text().startswith("2 of 32: rollout for")
    page.keyboard.press("ArrowLeft")
    assert large.get_attribute("src") == first
    page.keyboard.press("ArrowLeft")  # the last image, which has not been in view
    assert dialog.locator("p").inner_text().startswith("32 of 32: rollout for")
    assert large.bounding_box()["width"] == 32 * (900 * 8 // 10 // 32)
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "enlarge"
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_pages_fit_their_window(browser: Any, opened: tuple[Any, list[str]], width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(opened[0].url)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    small = "[...document.querySelectorAll('#rollouts img')].map((one) => one.getBoundingClientRect().width)"
    assert min(page.evaluate(small)) >= 110
    page.close()
