"""The app on a free port, in a thread, on the tiny model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pairuni.app.models import Models
from pairuni.app.pair_browser import PairBrowser
from pairuni.app.run_watch import RunWatch


@contextmanager
def served(
    models: Sequence[str] = ("tiny",), pairs: Sequence[Path] = (), runs: Sequence[Path] = (), token: str = ""
) -> Iterator[Any]:
    from pairuni.app.server import AppServer

    server = AppServer(
        Models(models, device="cpu"),
        [PairBrowser(path) for path in pairs],
        [RunWatch(path) for path in runs],
        address=("127.0.0.1", 0),
        token=token,
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()
