"""Parquet files and hub data sets as rows; image columns hold {"bytes", "path"}, as `datasets` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairuni.io.hub import check_data_set
from pairuni.io.text import first_line
from pairuni.pairug.jsonl import Problem
from pairuni.pairug.sources.readers.rows import Row, Rows
from pairuni.pairug.sources.values import Foreign

_ROWS = 32
"""Rows decoded at once; rows with images are large."""
_BUFFER = 1 << 20
"""Bytes of a column that are read ahead, instead of all of it."""


def parquet_rows(path: Path) -> Rows:
    """Rows of a parquet file; a damaged file yields a problem after the rows that could be read.

    Memory holds at most one row group; ``datasets`` writes one for every 100 rows with images.
    """
    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(_ROWS):
                for values in _python(batch):
                    number += 1
                    yield Row(path, values, number, tag=path.stem)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = f"is not a valid parquet file ({first_line(error)})"
        yield Problem(path, 0, "", reason, f"after row {number}" if number else "")


def _python(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows of a batch; a cell without a Python value becomes ``Foreign``, a float32 the shortest equal number."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        cells = [[_cell(scalar) for scalar in column] for column in batch.columns]
        rows = [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*cells, strict=True)]
    for field in batch.schema:
        if _holds_short_floats(field.type):
            for row in rows:
                row[field.name] = _short(row[field.name], field.type)
    return rows


def _cell(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return Foreign(str(scalar.type))


def _holds_short_floats(type: pa.DataType) -> bool:
    inner = [type.field(number).type for number in range(type.num_fields)]
    return pa.types.is_float16(type) or pa.types.is_float32(type) or any(map(_holds_short_floats, inner))


def _short(value: Any, type: pa.DataType) -> Any:
    if isinstance(value, float) and pa.types.is_floating(type):
        narrow = {16: np.float16, 32: np.float32}.get(type.bit_width, float)
        return float(str(narrow(value)))
    if isinstance(value, dict):
        return {name: _short(inner, type.field(name).type) for name, inner in value.items()}
    if isinstance(value, list) and not pa.types.is_map(type):
        return [_short(inner, type.value_type) for inner in value]
    return value


def hub_rows(name: str, options: Mapping[str, str]) -> Rows:
    """Rows of a hub data set, or of a local folder that ``datasets`` reads, streamed; images stay encoded.

    options: config, split (default train) and revision. A data set that cannot be read yields a problem. Raises
    ImportError with the install command.
    """
    try:
        import datasets
    except ImportError:
        raise ImportError(
            "reading hub data sets needs the package datasets: pip install 'pairuni[hub]'"
        ) from None
    where = Path(f"hub:{name}")
    number = 0
    try:
        check_data_set(name)
        found = datasets.load_dataset(
            name,
            options.get("config"),
            split=options.get("split", "train"),
            revision=options.get("revision"),
            streaming=True,
        )
        found = _undecoded(found, datasets.Image)
        for values in found:
            number += 1
            yield Row(where, dict(values), number, tag=name.rstrip("/").rpartition("/")[2])
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        reason = f"cannot be read by datasets ({first_line(error)})"
        yield Problem(where, 0, "", reason, f"after row {number}" if number else "")


def _undecoded(found: Any, image: Any) -> Any:
    """The data set with images as the bytes of their files; decoding and re-encoding would change them."""
    for column, feature in (found.features or {}).items():
        if isinstance(feature, image):
            found = found.cast_column(column, image(decode=False))
        elif isinstance(getattr(feature, "feature", None), image):
            found = found.cast_column(column, type(feature)(image(decode=False)))
    return found
