"""Parquet files from any source, read in batches; every failure is a ValueError that names the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairuni.io.text import first_line

ROWS = 8192


def read_batches(
    path: Path, *, rows: int = ROWS, columns: Sequence[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Rows as Python values, at most ``rows`` at a time. columns: paths of the leaves to read, all if None.

    Raises ValueError if the file is damaged, lacks a column, or holds a value without a Python equivalent, such as
    text that is not UTF-8 or a date after the year 9999.
    """
    import pyarrow.parquet as pq

    with _named(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=None if columns is None else list(columns)):
            yield batch.to_pylist()


def leaf_paths(path: Path) -> list[str]:
    """Paths of all leaves, such as ``generate_ann.prompt``. Raises FileNotFoundError, ValueError."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with _named(path), pq.ParquetFile(path) as file:
        return [file.schema.column(number).path for number in range(len(file.schema.names))]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not a valid parquet file ({first_line(error)})") from None
