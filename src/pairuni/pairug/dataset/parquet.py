"""Pairs as rows of parquet, with image paths or embedded images, which `datasets` decodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairuni.console.counts import counted
from pairuni.io.images import ImageError, decode, read_bytes
from pairuni.io.parquet import leaf_paths, read_batches
from pairuni.io.text import parse_json
from pairuni.pairug.jsonl import Problem, dump
from pairuni.records import Annotation, UGPair

SIDES = ("generate_ann", "understand_ann")
_ASKING = "understand_ann"
"""The side whose question may show several images, in columns of their own: ``image_paths`` and ``images``."""
_TEXTS = (*(name for name in Annotation.model_fields if name != "image_paths"), "extra")
"""Columns of a side; ``extra`` holds unknown keys as a JSON object."""
_EMBEDDED = tuple(
    f"{side}.{name}." for side, name in [*((one, "image") for one in SIDES), (_ASKING, "images")]
)
"""How the leaves of embedded images begin."""
_ROWS = 8192
_ROWS_WITH_IMAGES = 100
"""Rows per row group with embedded images: reading one row, as viewers do, reads few images."""

Images = dict[str, list[bytes | None]]
"""A row's embedded images by side, in order; empty when the file has none or they were not requested."""


def write_rows(path: Path, pairs: Iterable[UGPair], embed: Path | None = None) -> None:
    """Write a parquet file. embed: folder that image paths are relative to; embeds the images.

    Raises ValueError naming the pair and the image that cannot be read or does not decode.
    """
    schema = _schema(embed is not None)
    # Dictionary encoding would collect all images of a row group in one page.
    with pq.ParquetWriter(path, schema, use_dictionary=embed is None) as writer:
        for rows in _batches(_rows(pairs, embed), _ROWS if embed is None else _ROWS_WITH_IMAGES):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def is_embedded(path: Path) -> bool:
    """Whether a parquet file of pairs has embedded images. Raises FileNotFoundError, ValueError."""
    return any(name.startswith(_EMBEDDED) for name in leaf_paths(path))


def count_fault(images: Sequence[object], paths: Sequence[str]) -> str:
    """Why the embedded images of a side are not those of its paths."""
    return f"has {counted(len(images), 'image')} for {counted(len(paths), 'path')}"


def iter_rows(
    path: Path, *, with_images: bool = False
) -> Iterator[tuple[int, dict[str, Any] | Problem, Images]]:
    """Each row's number, its JSON object, and, with ``with_images``, its embedded images.

    Raises FileNotFoundError, or ValueError when this is not a complete parquet file.
    """
    leaves = leaf_paths(path)
    embedded = any(leaf.startswith(_EMBEDDED) for leaf in leaves)
    wanted = [leaf for leaf in leaves if not leaf.startswith(_EMBEDDED)]
    number = 0
    columns = wanted if embedded and not with_images else None
    for rows in read_batches(path, rows=_ROWS_WITH_IMAGES if embedded else _ROWS, columns=columns):
        for row in rows:
            number += 1
            held = _take_images(row) if embedded and with_images else {}
            yield number, _values(path, number, row), held


def _schema(embedded: bool) -> pa.Schema:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = [(name, pa.string()) for name in _TEXTS]
    one = [("image", image)] if embedded else []
    several = [("images", pa.list_(image))] if embedded else []
    fields = [
        ("similarity", pa.float64()),
        ("kind", pa.string()),
        ("generate_ann", pa.struct([*one, *texts])),
        (_ASKING, pa.struct([*one, *several, *texts, ("image_paths", pa.list_(pa.string()))])),
    ]
    schema = pa.schema([*fields, ("extra", pa.string())])
    if not embedded:
        return schema
    text = {"dtype": "string", "_type": "Value"}
    image_told, texts_told = {"_type": "Image"}, dict.fromkeys(_TEXTS, text)
    features = {
        "similarity": {"dtype": "float64", "_type": "Value"},
        "kind": text,
        "generate_ann": {"image": image_told, **texts_told},
        # lists as every version of datasets reads them; the order is that of the schema
        _ASKING: {"image": image_told, "images": [image_told], **texts_told, "image_paths": [text]},
    }
    info = json.dumps({"info": {"features": {**features, "extra": text}}})
    return schema.with_metadata({"huggingface": info})


def _rows(pairs: Iterable[UGPair], embed: Path | None) -> Iterator[dict[str, Any]]:
    decoded: set[str] = set()
    for number, pair in enumerate(pairs, start=1):
        sides = {}
        for name in SIDES:
            side: Annotation = getattr(pair, name)
            sides[name] = {
                **side.model_dump(include=set(Annotation.model_fields)),
                "extra": _json(side.model_extra),
            }
            if embed is not None:
                images = []
                for field, image_path in side.image_fields:
                    try:
                        data = read_bytes(embed / image_path)
                        if image_path not in decoded:
                            decode(data)
                            decoded.add(image_path)
                    except ImageError as error:
                        raise ValueError(f"pair {number}, {name}.{field}: {image_path!r} {error}") from None
                    images.append({"bytes": data, "path": image_path})
                sides[name] |= {"images": images} if len(images) > 1 else {"image": images[0]}
        yield {"similarity": pair.similarity, "kind": pair.kind, **sides, "extra": _json(pair.model_extra)}


def _take_images(row: dict[str, Any]) -> Images:
    held: Images = {}
    for name in SIDES:
        if isinstance(row.get(name), dict):
            one, several = row[name].pop("image", None), row[name].pop("images", None)
            held[name] = [(image or {}).get("bytes") for image in several or [one]]
    return held


def _json(extra: dict[str, Any] | None) -> str | None:
    return dump(extra) if extra else None


def _values(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any] | Problem:
    """A row as a JSON object. ``kind`` is not read, because it follows from the image paths."""
    row.pop("kind", None)
    try:
        for name in SIDES:
            if isinstance(row.get(name), dict):
                row[name] = _with_extra(row[name])
                # a row has one of both columns
                if row[name].get("image_paths") is not None and row[name].get("image_path") is None:
                    row[name].pop("image_path", None)
        return _with_extra(row)
    except ValueError:
        return Problem(path, number, "extra", "must be a JSON object in a string")


def _with_extra(values: dict[str, Any]) -> dict[str, Any]:
    extra = values.pop("extra", None)
    unpacked = {} if extra is None else parse_json(extra) if isinstance(extra, str) else None
    if not isinstance(unpacked, dict):
        raise ValueError
    return {**unpacked, **values}


def _batches(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    rest = iter(rows)
    while batch := list(islice(rest, size)):
        yield batch
