"""An engine on the machines of a Ray cluster, using Ray Data."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, Self

from pairuni.pairug.engine import Block, Made, Make


class RayEngine:
    """``with RayEngine(workers) as engine``: joins the cluster at RAY_ADDRESS, or starts Ray on this machine.

    workers: number of actors. gpus: per actor; 0 uses none. Raises ImportError without Ray, with the command that
    installs it, and ConnectionError when there is no cluster at RAY_ADDRESS.
    """

    def __init__(self, workers: int, *, gpus: float = 0.0) -> None:
        try:
            import ray.data  # noqa: F401 - fails early when Ray is missing
        except ImportError:
            raise ImportError("engine = ray needs Ray: pip install 'pairuni[ray]'") from None
        self._workers = workers
        self._gpus = gpus

    def __enter__(self) -> Self:
        import ray

        self._joined = ray.is_initialized()
        if not self._joined:
            options: dict[str, Any] = (
                {} if "RAY_ADDRESS" in os.environ else {"num_cpus": max(2, self._workers)}
            )
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **options)
        for name in ("ray.data", "ray"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return self

    def __exit__(self, *raised: object) -> None:
        import ray

        if not self._joined:
            ray.shutdown()

    def run(self, make: Make[Block, Made], blocks: Sequence[Block]) -> Iterator[tuple[int, Made]]:
        """(number, result) of every block, as they finish.

        Raises what a block raised; blocks that have not started by then are not computed.
        """
        import ray

        if not blocks:
            return
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        given = ray.put(make)
        payloads = [ray.put(block) for block in blocks]
        numbers = ray.data.from_items(
            [{"number": number} for number in range(len(blocks))], override_num_blocks=len(blocks)
        )
        rows = numbers.map_batches(
            _Worker,
            fn_constructor_args=([given], payloads),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(blocks))),
            num_cpus=1,
            num_gpus=self._gpus or None,
        )
        for row in rows.iter_rows():
            made, raised = pickle.loads(row["outcome"])
            if raised is not None:
                raise raised
            yield int(row["number"]), made


class _Worker:
    """An actor: calls ``make`` once, then computes blocks by number."""

    def __init__(self, given: list[Any], payloads: list[Any]) -> None:
        import ray

        self._payloads = payloads
        self._raised: Exception | None = None
        try:
            self._work = ray.get(given[0])()
        except Exception as error:  # raised again by the driver
            self._raised = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {
            "number": batch["number"],
            "outcome": [self._outcome(int(number)) for number in batch["number"]],
        }

    def _outcome(self, number: int) -> bytes:
        import ray

        made, raised = None, self._raised
        if raised is None:
            try:
                made = self._work(ray.get(self._payloads[number]))
            except Exception as error:  # raised again by the driver
                raised = error
        try:
            return pickle.dumps((made, raised))
        except (pickle.PicklingError, TypeError, AttributeError):
            return pickle.dumps((None, RuntimeError(f"{type(raised).__name__}: {raised}")))
