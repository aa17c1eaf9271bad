"""The image of the reports page: a comparison of runs in Chromium, light at the left, dark at the right.

pip install -e ".[browser]"; python docs/images/compare.py docs/images/compare.png RUN RUN ...
"""

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from pairuni.report import write_comparison

SIZE = {"width": 1280, "height": 800}


def main(out: Path, runs: list[Path]) -> None:
    shots = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = write_comparison(runs, Path(folder) / "compare.html")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
            page.goto(page_file.as_uri())
            page.evaluate("document.querySelector('#curves .charts').scrollIntoView()")
            page.evaluate("window.scrollBy(0, -60)")
            page.wait_for_timeout(500)
            shots.append(Image.open(BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    light, dark = shots
    half = light.width // 2
    light.paste(dark.crop((half, 0, dark.width, dark.height)), (half, 0))
    out.parent.mkdir(parents=True, exist_ok=True)
    light.quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
