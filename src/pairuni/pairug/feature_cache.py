"""Features on disk by the content of their image, in shards that are either whole or absent."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairuni.files import replacing

SHARD = 1024
"""Features per file: what a killed run encodes again at most."""


class FeatureCache:
    """Rows by key, in ``folder`` or, with None, in memory alone. Raises ValueError for a broken shard."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._rows: dict[str, NDArray[np.float32]] = {}
        self._fresh: list[str] = []
        self._shards = 0
        for shard in sorted(folder.glob("shard-*.npz")) if folder else ():
            try:
                with np.load(shard, allow_pickle=False) as arrays:
                    self._rows.update(zip(arrays["keys"].tolist(), arrays["features"], strict=True))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{shard} cannot be read ({error}); remove it to encode anew") from None
            self._shards = int(shard.stem.removeprefix("shard-")) + 1

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> NDArray[np.float32]:
        return self._rows[key]

    def add(self, key: str, row: NDArray[np.float32]) -> None:
        """Keep a row; it is on disk after the next full shard or ``flush``."""
        self._rows[key] = row
        self._fresh.append(key)
        if len(self._fresh) == SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        if self._fresh and self.folder:
            features = np.stack([self._rows[key] for key in self._fresh])
            with replacing(self.folder / f"shard-{self._shards:06d}.npz") as aside, aside.open("wb") as file:
                np.savez(file, keys=np.array(self._fresh), features=features)
            self._shards += 1
        self._fresh = []
