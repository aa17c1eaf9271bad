"""Features on disk, keyed by image content, in .npy shards that are written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairuni.io.files import atomic_write

_KEYS = ".keys.npy"


class FeatureCache:
    """Rows by key in the shards of a folder; only the keys are in memory.

    A shard is NAME.npy, float32 [n, D], and NAME.keys.npy, which is written last: without it the shard is ignored.
    Several processes may add shards of different names. If two shards hold a key, the first by name is used.
    Raises ValueError for a damaged shard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: list[Path] = []
        self._place: dict[str, tuple[int, int]] = {}
        for listed in sorted(folder.glob(f"*{_KEYS}")):
            path = listed.with_name(listed.name.removesuffix(_KEYS) + ".npy")
            try:
                keys = np.load(listed, allow_pickle=False).astype(str).tolist()
                rows = np.load(path, mmap_mode="r", allow_pickle=False)
                if rows.ndim != 2 or len(rows) != len(keys):
                    raise ValueError(f"it has {rows.shape} numbers for {len(keys)} keys")
            except (OSError, ValueError, EOFError) as error:
                reason = f"{path} cannot be read ({error}); remove it and {listed.name} to encode again"
                raise ValueError(reason) from None
            self._index(keys, path)

    def __contains__(self, key: str) -> bool:
        return key in self._place

    def __len__(self) -> int:
        return len(self._place)

    def add(self, block: int, keys: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Write rows [n, D] of one block of images as a shard."""
        digest = hashlib.blake2b("".join(keys).encode(), digest_size=8).hexdigest()
        path = self.folder / f"{block:08d}-{digest}.npy"
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows.astype(np.float32), allow_pickle=False)
        with atomic_write(path.with_name(path.stem + _KEYS)) as temporary, temporary.open("wb") as file:
            np.save(file, np.array(keys, dtype=np.bytes_), allow_pickle=False)
        self._index(keys, path)

    def gather(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """Rows [n, D] of these keys, in order. Raises KeyError for an unknown key."""
        places = np.array([self._place[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        gathered: NDArray[np.float32] | None = None
        for shard in np.unique(places[:, 0]).tolist():
            path = self._shards[shard]
            rows = np.load(path, mmap_mode="r")
            if gathered is None:
                gathered = np.empty((len(keys), rows.shape[1]), dtype=np.float32)
            if rows.shape[1] != gathered.shape[1]:
                raise ValueError(
                    f"shard {path.stem} has features of another width; delete it to encode again"
                )
            mine = np.flatnonzero(places[:, 0] == shard)
            gathered[mine] = rows[places[mine, 1]]
        return np.zeros((0, 1), np.float32) if gathered is None else gathered

    def _index(self, keys: Sequence[str], path: Path) -> None:
        number = len(self._shards)
        self._shards.append(path)
        for row, key in enumerate(keys):
            first = self._place.get(key)
            if first is None or path.name < self._shards[first[0]].name:
                self._place[key] = number, row
