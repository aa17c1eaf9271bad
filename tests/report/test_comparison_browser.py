"""The comparison of runs in a real browser, narrow and wide, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_comparison import made_run

from browser import faults_of
from pairuni.report import write_comparison

pytestmark = pytest.mark.slow

SMALLEST_CONTRAST = """() => {
  const luminance = (rgb) => rgb.map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const parsed = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
  const paper = luminance(parsed(getComputedStyle(document.body).backgroundColor));
  const against = (colour) => {
    const own = luminance(parsed(colour));
    return (Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05);
  };
  const of = (selector, property) =>
    Math.min(...[...document.querySelectorAll(selector)].map((one) => against(getComputedStyle(one)[property])));
  return [of(".trend", "stroke"), of("p, td, th, figcaption, .readout *", "color")];
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        made_run(
            folder / f"a run with a long name {number}", steps=20 + number, rate=number + 1, right="10" * 9
        )
        for number in range(16)
    ]
    return write_comparison(runs, folder / "compare.html")


@pytest.fixture(params=[(390, "light"), (390, "dark"), (1300, "light"), (1300, "dark")])
def opened(browser: Any, page_file: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Any, list[str]]]:
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said = faults_of(page)
    page.goto(page_file.as_uri())
    yield page, said
    page.close()


def test_the_page_fits_and_can_be_read(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    assert page.evaluate("document.documentElement.scrollWidth === innerWidth")
    lines, words = page.evaluate(SMALLEST_CONTRAST)
    assert lines >= 3
    assert words >= 4.5
    smallest = "Math.min(...[...document.querySelectorAll('.strip img')].map((one) => one.clientWidth))"
    assert page.evaluate(smallest) >= 110
    assert said == []


def test_every_run_is_read_at_the_selected_step(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    plot = page.locator("[data-chart]").first
    plot.focus()
    page.keyboard.press("Home")
    said_text = plot.get_attribute("aria-valuetext")
    assert said_text.startswith("step 1, smoothed: A ")
    assert len(said_text.split(", ")) == 1 + 16
    page.keyboard.press("End")
    assert "A " in plot.get_attribute("aria-valuetext")
    assert page.locator(".readout").first.locator("b").count() == 16
    assert "at 20" in page.locator(".readout .run-1").first.inner_text()
    assert page.locator(".readout .run-16").first.inner_text().count("at") == 0
    assert plot.locator(".dot:visible").count() == 16
    assert said == []


def test_images_of_a_comparison_enlarge(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    page.locator("#images .enlarge").first.click()
    assert page.locator("dialog p").inner_text().startswith("1 of 96: A a run with a long name 0: ")
    page.locator("dialog button").click()
    assert not page.locator("dialog").is_visible()
    assert said == []
