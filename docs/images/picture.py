"""The image of the README: the demo's first twelve held-out prompts, drawn before and after training.

python docs/images/picture.py runs/demo docs/images/demo.png
"""

import json
import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PROMPTS, TILE, GAP, LABEL, MARGIN = 12, 96, 14, 44, 64
RIGHT, WRONG = (36, 138, 61), (200, 60, 50)


def main(run: Path, out: Path) -> None:
    before, after = (
        json.loads((run / "evaluation" / f"{name}.json").read_text())["generation"]["items"][:PROMPTS]
        for name in ("before", "after")
    )
    columns = PROMPTS // 2
    block = LABEL + 2 * (TILE + GAP)
    sheet = Image.new("RGB", (MARGIN + columns * (TILE + GAP), 2 * block + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for index, (was, now) in enumerate(zip(before, after, strict=True)):
        left = MARGIN + index % columns * (TILE + GAP)
        top = GAP // 2 + index // columns * block
        pen.multiline_text((left, top), "\n".join(textwrap.wrap(was["prompt"], 15)), "black", font, spacing=1)
        for row, (name, item) in enumerate((("before", was), ("after", now))):
            corner = (left, top + LABEL + row * (TILE + 8))
            with Image.open(run / item["image"]) as picture:
                sheet.paste(picture.resize((TILE, TILE), Image.Resampling.NEAREST), corner)
            colour = RIGHT if item["correct"] else WRONG
            pen.rectangle((*corner, corner[0] + TILE - 1, corner[1] + TILE - 1), outline=colour, width=3)
            if index % columns == 0:
                pen.text((8, corner[1] + TILE // 2 - 8), name, "black", font)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
