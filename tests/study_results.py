"""Made results of studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairuni.studies.results import Result


def made_result(
    *,
    seed: int = 0,
    before: Sequence[float] | None = None,
    after: Sequence[float] = (1, 0, 1, 0),
    generation: Sequence[float] | None = None,
    **changed: Any,
) -> Result:
    """A run with these item scores of both tasks, or other ones of generation."""

    def scores(items: Sequence[float]) -> dict[str, Any]:
        return {"score": sum(items) / len(items), "items": list(items), "by_kind": {"a": items[0]}}

    before = [0] * len(after) if before is None else before
    values: dict[str, Any] = {
        "key": f"key-{seed}",
        "seed": seed,
        "study": "made",
        "row": "row",
        "command": "pairuni ablate made.toml",
        "version": "0",
        "commit": "abc",
        "finished": "2026-01-01",
        "seconds": 1.0,
        "steps": 2,
        "pairs": {"count": 10, "aligned": 3, "similarity": 0.8},
        "before": {"understanding": scores(before), "generation": scores(before)},
        "after": {"understanding": scores(after), "generation": scores(generation or after)},
        "curves": {"understanding/reward": [0.1, 0.2], "gradient_agreement": [0.5, None]},
        "settings": {},
    }
    return Result.model_validate({**values, **changed})
