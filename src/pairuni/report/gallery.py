"""The gallery: an offline HTML page to search and filter thousands of pairs."""

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
"""Default maximum number of pairs on a page."""
MOST_EMBEDDED = 256 * 2**20
"""Maximum characters of embedded images; browsers refuse a text of twice this size."""


@dataclass(frozen=True)
class Gallery:
    """The written page. shown: pairs on the page. total: pairs given. missing: images not found."""

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
    """Write a gallery of ``pairs``, whose image paths are relative to ``folder``.

    out: a name that ends in .html gives a single page with embedded images; any other name is a folder for
    gallery.html and gallery-pictures/. An existing page is replaced atomically.
    most: maximum number of pairs shown. If there are more, evenly spaced ones are chosen, and the page says so.
    advance(done, total): called as thumbnails are made.

    Raises ValueError for no pairs, an ``out`` that is the wrong kind of file, or too much to embed.
    """
    if not pairs:
        raise ValueError("there are no pairs to show")
    single = out.suffix.lower() in (".html", ".htm")
    if single == out.is_dir() and out.exists():
        kind = "a folder, but the name of a page is needed" if single else "a file, but a folder is needed"
        raise ValueError(f"{out} is {kind}; choose another --out")
    chosen = _evenly_spaced_numbers(len(pairs), most)
    data = _data([(number + 1, pairs[number]) for number in chosen])
    paths = data["paths"]
    page = out if single else out / "gallery.html"
    if single:
        data["images"] = embed_images(folder, paths, advance, most=MOST_EMBEDDED)
        write_text(page, _render(title, data, len(pairs), "data:"))
    else:
        thumbnails = out / "gallery-pictures"
        data["images"] = write_images(folder, paths, thumbnails, advance)
        write_text(page, _render(title, data, len(pairs), "'self' file:"))
        _remove_unused(thumbnails, data["images"])
    return Gallery(page, len(chosen), len(pairs), sum(image is None for image in data["images"]))


def _evenly_spaced_numbers(count: int, most: int) -> list[int]:
    """At most ``most`` of 0..count-1, evenly spaced and in order."""
    if count <= most:
        return list(range(count))
    return [index * count // most for index in range(most)]


def _data(numbered: Sequence[tuple[int, UGPair]]) -> dict[str, Any]:
    """The pairs as tables that hold each image, tag and side once.

    paths: of images. sides: [image or list of images, prompt, question, answer, tag]. pairs: [number in the file,
    similarity, understanding side, generation side]. Images, tags and sides are referred to by index.
    """
    paths: dict[str, int] = {}
    tags: dict[str, int] = {}
    sides: dict[tuple[int | tuple[int, ...], str, str, str, int], int] = {}

    def side(one: Annotation) -> int:
        shown = tuple(paths.setdefault(path, len(paths)) for path in one.image_paths)
        image = shown[0] if len(shown) == 1 else shown
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
    """JSON without characters that HTML could parse as markup."""
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
            f"{shown:,}" if shown == total else f"{shown:,} of {total:,} in the file, evenly spaced",
        ),
        ("aligned", f"{shown - len(retrieved):,}"),
        ("retrieved", f"{len(retrieved):,}"),
        (
            "mean similarity of retrieved pairs",
            f"{sum(retrieved) / len(retrieved):.3f}" if retrieved else None,
        ),
        ("images", f"{len(data['paths']):,}"),
        ("images not found", f"{missing:,}" if missing else None),
    ]
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts if value is not None
    )
    return f"<dl>{rows}</dl>"


def _remove_unused(folder: Path, images: Sequence[Source | None]) -> None:
    used = {Path(image[0]).name for image in images if image is not None}
    for path in folder.iterdir():
        ours = re.fullmatch(r"[0-9a-f]{20}\.(png|jpg)|\.[0-9a-f]{20}-\d+\.partial", path.name)
        if ours and path.name not in used:
            path.unlink()
