"""A benchmark as a run needs it: what to ask or draw, and what to make of the records; and the run itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pairuni import __version__
from pairuni.chat.reasoning import without_reasoning
from pairuni.distributed.shares import Share
from pairuni.evaluation.result import Result
from pairuni.evaluation.running import (
    Ask,
    Draw,
    Model,
    Run,
    all_records,
    answer_all,
    digest_of,
    draw_all,
    own_journal,
    settings_checked,
    when_all_are_done,
)
from pairuni.io.files import write_text
from pairuni.io.locks import exclusive_lock

T = TypeVar("T")

Records = Mapping[str, Mapping[str, Any]]
"""By key, {"reply", "finished"} of an Ask and {"guidance"} of a Draw."""


def said(records: Records, key: str) -> str:
    """The reply to an Ask as official files hold it: without the model's reasoning."""
    return without_reasoning(str(records[key]["reply"]))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a model is asked or draws for a benchmark, and how that becomes official files and results.

    settings: what the numbers depend on besides the model, as the prompt set. subset: the sentence that says what was
    left out, None when nothing was. finish: from the records of all items to results, official files written.
    begin: files that are there before the first item is, written by one process at a time. share_work: what every
    process does its share of when all items are recorded, before the first one finishes.
    unscored: how to come to a score where ``finish`` gives none. seed_of: see ``draw_all``.
    """

    name: str
    settings: Mapping[str, Any]
    finish: Callable[[Records], list[Result]]
    asks: Sequence[Ask] = ()
    draws: Sequence[Draw] = ()
    max_new_tokens: int = 0
    subset: str | None = None
    unscored: str = ""
    begin: Callable[[], None] | None = None
    share_work: Callable[[Share], None] | None = None
    seed_of: Callable[[int, int], int] | None = None

    def __post_init__(self) -> None:
        repeated = [key for key, count in Counter(self.keys).items() if count > 1]
        if repeated:
            raise ValueError(f"{self.name}: {repeated[0]} is there twice, and each item counts once")

    @property
    def keys(self) -> list[str]:
        return [*(ask.key for ask in self.asks), *(draw.key for draw in self.draws)]


def run_benchmark(benchmark: Benchmark, model: Model, out: Path, share: Share) -> list[Result] | None:
    """Ask and draw what is not recorded in ``out`` yet; the first process scores when all have ended theirs.

    Results go to ``out``, a JSON each and all tables in ``table.txt``. None for the other processes. Raises
    ValueError when ``out`` holds a run with other settings or another process is at work there.
    """
    settings = _described(benchmark, model)
    items = {"version": __version__, "items": f"{len(benchmark.keys)}, {digest_of(_asked(benchmark))}"}
    settings_checked(out, {"benchmark": benchmark.name, **items, **settings})
    if benchmark.begin is not None:
        with exclusive_lock(out / ".run.lock"):
            benchmark.begin()
    with own_journal(out, share) as own:
        run = Run(out, own, share, all_records(out))
        answer_all(
            model,
            benchmark.asks,
            run,
            max_new_tokens=benchmark.max_new_tokens,
            title=f"{benchmark.name} replies",
        )
        draw_all(model, benchmark.draws, run, title=f"{benchmark.name} images", seed_of=benchmark.seed_of)
        if share.rank > 0 and benchmark.share_work is None:
            return None
        records = when_all_are_done(out, benchmark.keys)
        if benchmark.share_work is not None:
            benchmark.share_work(share)
        if share.rank > 0:
            return None
        results = [_completed(result, benchmark, settings, records) for result in benchmark.finish(records)]
        write_results(results, out)
    return results


def write_results(results: Sequence[Result], out: Path) -> list[Path]:
    """Write a JSON for each result, and all tables into ``table.txt``; returns the JSON files."""
    paths = [out / f"{result.slug}.json" for result in results]
    for result, path in zip(results, paths, strict=True):
        result.write(path)
    if results:
        write_text(out / "table.txt", "".join(f"{result.table()}\n" for result in results))
    return paths


def spread(
    groups: Mapping[str, Sequence[T]], limit: int | None, what: str
) -> tuple[dict[str, list[T]], str | None]:
    """At most ``limit`` items in all, as many of each group as of others; and the sentence that says so, None when
    nothing is left out.

    Items are drawn by a fixed seed and keep their order: even distances would take the same side of benchmarks
    whose answers alternate. what: the items in words. Raises ValueError when a group would be left empty.
    """
    total = sum(map(len, groups.values()))
    if limit is None or limit >= total:
        return {name: list(items) for name, items in groups.items()}, None
    if limit < len(groups):
        raise ValueError(
            f"--limit is {limit}, but must be at least {len(groups)}: each part needs {what} of its own"
        )
    quotas = dict.fromkeys(groups, 0)
    left = limit
    while left:
        for name in [name for name, items in groups.items() if quotas[name] < len(items)][:left]:
            quotas[name] += 1
            left -= 1
    draw = random.Random(0)
    chosen = {
        name: [items[place] for place in sorted(draw.sample(range(len(items)), quotas[name]))]
        for name, items in groups.items()
    }
    return (
        chosen,
        f"{limit:,} of {total:,} {what}, drawn evenly from all parts; not comparable with all of them",
    )


def _described(benchmark: Benchmark, model: Model) -> dict[str, Any]:
    described = {**model.described(), **benchmark.settings}
    if benchmark.asks:
        described |= {"decoding": "greedy", "most new tokens": benchmark.max_new_tokens}
    if benchmark.draws:
        described |= {"seed": model.seed, "temperature": model.temperature, "guidance": model.guidance}
    if benchmark.subset is not None:
        described["subset"] = benchmark.subset
    return described


def _asked(benchmark: Benchmark) -> list[str]:
    return [f"{one.key}\n{one.question}" for one in benchmark.asks] + [
        f"{one.key}\n{one.prompt}\n{len(one.pictures)}" for one in benchmark.draws
    ]


def _completed(result: Result, benchmark: Benchmark, settings: Mapping[str, Any], records: Records) -> Result:
    """The result with the run's settings and what was cut."""
    told = {**settings, **result.settings, "pairuni": __version__}
    if benchmark.draws:
        told["guidance"] = records[benchmark.draws[0].key]["guidance"]
    counts = dict(result.counts)
    if benchmark.asks:
        counts["cut at the limit"] = sum(not records[ask.key]["finished"] for ask in benchmark.asks)
    return replace(result, settings=told, counts=counts)
