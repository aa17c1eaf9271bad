"""The images of the app page: its tabs Draw and Watch in Chromium, as wide as a laptop's and as a telephone's window.

pip install -e ".[app,browser]"; python docs/images/app.py runs/demo docs/images
"""

import shutil
import sys
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pairuni.app.models import Models
from pairuni.app.pair_browser import PairBrowser
from pairuni.app.run_watch import RunWatch
from pairuni.app.server import AppServer
from pairuni.runs.run import read_run

HEIGHT, GAP = 840, 24
WIDTHS = (1300, 390)


def main(run: Path, out: Path) -> None:
    pairs = read_run(run).pairs_file
    server = AppServer(
        Models(["tiny", str(run)]),
        [PairBrowser(pairs)] if pairs else [],
        [RunWatch(run)],
        address=("127.0.0.1", 0),
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            pages = [browser.new_page(viewport={"width": width, "height": HEIGHT}) for width in WIDTHS]
            for name, prepare in (("draw", draw), ("watch", watch)):
                beside(out / f"app-{name}.png", [shot(page, server.url, prepare) for page in pages])
            browser.close()
    finally:
        server.stop()
        thread.join()


def shot(page: Page, url: str, prepare: Any) -> Image.Image:
    page.goto(url)
    page.get_by_role("tab", name="Draw").wait_for()
    prepare(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    return Image.open(BytesIO(page.screenshot())).convert("RGB")


def draw(page: Page) -> None:
    page.get_by_label("Prompt").fill("a red seven and a blue two")
    page.get_by_label("Seeds").fill("0-2")
    page.get_by_label("Images per seed").fill("2")
    page.get_by_label("Guidance").fill("2")
    page.get_by_role("button", name="Draw").click()
    page.get_by_text("The same in a terminal").wait_for(timeout=120_000)
    if page.viewport_size and page.viewport_size["width"] < 700:
        page.get_by_role("button", name="Draw").evaluate("button => button.scrollIntoView()")


def watch(page: Page) -> None:
    page.get_by_role("tab", name="Watch").click()
    page.locator("[data-chart]").first.wait_for()


def beside(path: Path, shots: list[Image.Image]) -> None:
    """Write the images next to each other, in few colours, which keeps the file small."""
    sheet = Image.new("RGB", (sum(one.width for one in shots) + GAP * (len(shots) - 1), HEIGHT), "#d5d3cd")
    left = 0
    for one in shots:
        sheet.paste(one, (left, 0))
        left += one.width + GAP
    sheet.quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
