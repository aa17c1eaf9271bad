"""Pairs as a page to look at: search, filters, thousands of pairs; from a file, without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pairuni.io.files import write_text
from pairuni.records import Annotation, UGPair
from pairuni.report.gallery_images import Source, embed_images, write_images
from pairuni.report.markup import content_policy, escape

MOST = 20_000
"""Pairs on one page unless asked for more."""
MOST_EMBEDDED = 256 * 2**20
"""Characters of images inside one page; browsers refuse a text of twice this."""


@dataclass(frozen=True)
class Gallery:
    """What was written. shown, total: pairs on the page and pairs given; missing: images not found."""

    page: Path
    shown: int
    total: int
    missing: int


def write_gallery(
    pairs: Sequence[UGPair],
    folder: Path,
    out: Path,
    *,
    title: str,
    most: int = MOST,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Gallery:
    """Write the page of ``pairs``, whose image paths are relative to ``folder``.

    out: a name that ends in .html makes one page with its images inside; any other is a folder, which gets
    gallery.html and gallery-pictures/. An earlier page stays whole until the new one takes its place.
    most: of more pairs, this many are taken at even distances, and the page says so.
    advance(done, total): called as thumbnails are made.

    Raises ValueError for no pairs, an ``out`` that is the wrong kind of file, or too much to embed.
    """
    if not pairs:
        raise ValueError("there are no pairs to show")
    alone = out.suffix.lower() in (".html", ".htm")
    if alone == out.is_dir() and out.exists():
        kind = "a folder, and a page was asked for" if alone else "a file, and a gallery needs a folder"
        raise ValueError(f"{out} is {kind}; choose another --out")
    chosen = _spread(len(pairs), most)
    data = _data([(number + 1, pairs[number]) for number in chosen])
    paths = data["paths"]
    page = out if alone else out / "gallery.html"
    if alone:
        data["images"] = embed_images(folder, paths, advance, most=MOST_EMBEDDED)
        write_text(page, _render(title, data, len(pairs), "data:"))
    else:
        pictures = out / "gallery-pictures"
        data["images"] = write_images(folder, paths, pictures, advance)
        write_text(page, _render(title, data, len(pairs), "'self' file:"))
        _remove_unused(pictures, data["images"])
    return Gallery(page, len(chosen), len(pairs), sum(image is None for image in data["images"]))


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of 0..count-1 at even distances, in order."""
    if count <= most:
        return list(range(count))
    return [index * count // most for index in range(most)]


def _data(numbered: Sequence[tuple[int, UGPair]]) -> dict[str, Any]:
    """The pairs as tables that name each image, tag and side once.

    paths: of images. sides: [image, prompt, question, answer, tag]. pairs: [number in the file,
    similarity, understanding side, generation side]; images, tags and sides by their place.
    """
    paths: dict[str, int] = {}
    tags: dict[str, int] = {}
    sides: dict[tuple[int, str, str, str, int], int] = {}

    def side(one: Annotation) -> int:
        image = paths.setdefault(one.image_path, len(paths))
        tag = tags.setdefault(one.tag, len(tags))
        return sides.setdefault((image, one.prompt, one.question, one.answer, tag), len(sides))

    rows = [
        [number, round(pair.similarity, 6), side(pair.understand_ann), side(pair.generate_ann)]
        for number, pair in numbered
    ]
    return {"paths": list(paths), "tags": list(tags), "sides": list(sides), "pairs": rows}


def _render(title: str, data: dict[str, Any], total: int, images_from: str) -> str:
    assets = files("pairuni.report")

    def asset(name: str) -> str:
        return (assets / name).read_text(encoding="utf-8")

    style, script = asset("style.css") + asset("gallery.css"), asset("gallery.js")
    parts = {
        "policy": content_policy(style, script, images_from),
        "title": escape(title),
        "style": style,
        "facts": _facts(data, total),
        "data": _json(data),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], asset("gallery.html"))


def _json(data: dict[str, Any]) -> str:
    """JSON without a character that HTML could take for markup."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _facts(data: dict[str, Any], total: int) -> str:
    sides = data["sides"]
    retrieved = [similarity for _, similarity, und, gen in data["pairs"] if sides[und][0] != sides[gen][0]]
    shown = len(data["pairs"])
    missing = sum(image is None for image in data["images"])
    facts = [
        (
            "pairs",
            f"{shown:,}" if shown == total else f"{shown:,} of the file's {total:,}, at even distances",
        ),
        ("aligned", f"{shown - len(retrieved):,}"),
        ("retrieved", f"{len(retrieved):,}"),
        ("their mean similarity", f"{sum(retrieved) / len(retrieved):.3f}" if retrieved else None),
        ("images", f"{len(data['paths']):,}"),
        ("images not found", f"{missing:,}" if missing else None),
    ]
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts if value is not None
    )
    return f"<dl>{rows}</dl>"


def _remove_unused(pictures: Path, images: Sequence[Source | None]) -> None:
    used = {Path(image[0]).name for image in images if image is not None}
    for path in pictures.iterdir():
        ours = re.fullmatch(r"[0-9a-f]{20}\.(png|jpg)|\.[0-9a-f]{20}-\d+\.partial", path.name)
        if ours and path.name not in used:
            path.unlink()
