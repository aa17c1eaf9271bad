"""The built site in Chromium, cut off from every other server. Needs pip install pairuni[docs,browser] and Chromium."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from browser import faults_of
from tools.site import pages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
OPEN = ["", *(f"{path.stem}/" for path in sorted(pages.DOCS.glob("*.md"))), "api/pairuni/", "quickstart/"]
OPEN += ["source/src/pairuni/pairgrpo/objective.py/", "source/src/pairuni/rewards/", "404.html"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mkdocs")
    built = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]
    done = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def opened(browser: Any, address: str, width: int, scheme: str) -> tuple[Any, list[str]]:
    """A page that only reaches ``address``, and a list that grows with all that goes wrong on it."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    faults = faults_of(page)

    def decide(route: Any) -> None:
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            faults.append(f"asks for {route.request.url}")
            route.abort()

    context.route("**/*", decide)
    return page, faults


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1300, "light")])
def test_every_page_opens_without_a_network_and_fits(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    page, faults = opened(browser, address, width, scheme)
    for place in OPEN:
        page.goto(address + place)
        assert not faults, f"{place}: {faults}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{place} is too wide"
        assert (
            page.evaluate("document.body.dataset.mdColorScheme")
            == {"light": "default", "dark": "slate"}[scheme]
        )
        broken = "[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
        assert page.evaluate(broken) == [], place


def test_search_finds_the_functions_of_the_method(browser: Any, address: str) -> None:
    page, faults = opened(browser, address, 1300, "light")
    page.goto(address)
    page.locator("input.md-search__input").click()
    page.keyboard.type("group_advantages")
    first = page.locator(".md-search-result__item a").first
    first.wait_for()
    assert "/method/" in first.get_attribute("href") or "/architecture/" in first.get_attribute("href")
    assert not faults


def test_a_diagram_follows_the_colours_of_the_page(browser: Any, address: str) -> None:
    page, _ = opened(browser, address, 1300, "light")
    page.goto(f"{address}architecture/")
    diagram = page.locator("img[src$='layers.svg']")
    diagram.scroll_into_view_if_needed()

    def ground() -> int:
        with Image.open(io.BytesIO(diagram.screenshot())) as image:
            return image.convert("L").getpixel((image.width // 2, 5))

    assert ground() > 200
    page.locator("label[title='Dark colours']:visible").click()
    page.wait_for_function("document.body.dataset.mdColorScheme == 'slate'")
    page.wait_for_timeout(500)
    assert ground() < 60
