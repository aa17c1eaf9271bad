"""The image of the gallery in getting-started: a demo's pairs in Chromium, light at the left, dark at the right.

pip install -e ".[browser]"; python docs/images/gallery.py runs/demo docs/images/gallery.png
"""

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from pairuni.cli.pairs import gallery

SIZE = {"width": 1280, "height": 800}


def main(run: Path, out: Path) -> None:
    shots = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        page_file = gallery(run / "pairug" / "pairs.jsonl", Path(folder) / "gallery", most=20_000).page
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.locator(".kinds label", has_text="retrieved").click()
            page.select_option("#order", "falling")
            page.wait_for_timeout(500)
            shots.append(Image.open(BytesIO(page.screenshot())).convert("RGB"))
        browser.close()
    light, dark = shots
    half = 796  # between two columns of cards
    light.paste(dark.crop((half, 0, dark.width, dark.height)), (half, 0))
    out.parent.mkdir(parents=True, exist_ok=True)
    light.quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
