"""The report in a real browser: only its own style and script work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from browser import faults_of

from fake_run import write_fake_run
from pairuni.report import write_report

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


def test_curves_can_be_read_with_the_keyboard(opened: tuple[Any, list[str]]) -> None:
    page, said = opened
    plot = page.locator("[data-chart]").first
    plot.focus()
    page.keyboard.press("Home")
    assert "step 1:" in plot.get_attribute("aria-valuetext")
    assert plot.locator(".cursor").is_visible()
    assert said == []
