"""The interface of a benchmark, and the function that runs one."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pairuni import __version__
from pairuni.chat.reasoning import without_reasoning
from pairuni.config import Settings, to_toml
from pairuni.distributed.shares import Share
from pairuni.evaluation.inference import (
    EditItem,
    PromptItem,
    QuestionItem,
    answer_questions,
    edit_images,
    generate_images,
)
from pairuni.evaluation.model import Model
from pairuni.evaluation.result import Result
from pairuni.evaluation.run_folder import (
    Run,
    all_records,
    check_settings,
    own_journal,
    run_lock_path,
    wait_for_records,
)
from pairuni.io.files import write_text
from pairuni.io.locks import exclusive_lock

T = TypeVar("T")

Records = Mapping[str, Mapping[str, Any]]
"""By key, {"reply", "finished"} of a question, {"guidance"} of a prompt, {"guidance", "image guidance"} of an edit."""


SEVERAL = "several pictures"
"""A key of settings and counts: how several images of a question are shown, and how many questions have them."""
JOINED, ONE_BY_ONE = "side by side in one", "one after the other"


def reply_to(records: Records, key: str) -> str:
    """The reply to a question as official files hold it: without the model's reasoning."""
    return without_reasoning(str(records[key]["reply"]))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark's items, and how their records become official files and results.

    settings: what the score depends on besides the model, such as the prompt set. subset: a sentence about the items
    that were left out, None for all items. begin: writes files that must exist before the first item runs; one
    process at a time. share_work: what each process does when all items are recorded. finish: writes official files
    and returns the results; the first process only. unscored: what to tell the user when ``finish`` returns no
    result. seed_of: see ``generate_images``.
    """

    name: str
    settings: Mapping[str, Any]
    finish: Callable[[Records], list[Result]]
    questions: Sequence[QuestionItem] = ()
    prompts: Sequence[PromptItem] = ()
    edits: Sequence[EditItem] = ()
    max_new_tokens: int = 0
    subset: str | None = None
    unscored: str = ""
    begin: Callable[[], None] | None = None
    share_work: Callable[[Share], None] | None = None
    seed_of: Callable[[int, int], int] | None = None

    def __post_init__(self) -> None:
        repeated = [key for key, count in Counter(self.keys).items() if count > 1]
        if repeated:
            raise ValueError(f"{self.name}: {repeated[0]} occurs twice, and each item counts once")

    @property
    def keys(self) -> list[str]:
        return [item.key for items in (self.questions, self.prompts, self.edits) for item in items]


def run_benchmark(
    benchmark: Benchmark, model: Model, out: Path, share: Share, *, settings: Settings | None = None
) -> list[Result] | None:
    """Run the items that ``out`` has no record of; the first process scores when all processes are done.

    Results go to ``out``, one JSON file each, and all tables to ``table.txt``. settings: written to ``config.toml``,
    a recipe for the same run. Returns None in the other processes. Raises ValueError when ``out`` holds a run with
    other settings or another process is working there.
    """
    described = _described(benchmark, model)
    items = {"version": __version__, "items": f"{len(benchmark.keys)}, {_items_digest(benchmark)}"}
    check_settings(out, {"benchmark": benchmark.name, **items, **described})
    with exclusive_lock(run_lock_path(out)):
        if settings is not None:
            write_text(out / "config.toml", to_toml(settings))
        if benchmark.begin is not None:
            benchmark.begin()
    with own_journal(out, share) as own:
        run = Run(own, share, all_records(out))
        answer_questions(
            model,
            benchmark.questions,
            run,
            max_new_tokens=benchmark.max_new_tokens,
            title=f"{benchmark.name} replies",
            joined=described.get(SEVERAL) == JOINED,
        )
        generate_images(
            model, benchmark.prompts, run, title=f"{benchmark.name} images", seed_of=benchmark.seed_of
        )
        edit_images(model, benchmark.edits, run, title=f"{benchmark.name} images", seed_of=benchmark.seed_of)
        if share.rank > 0 and benchmark.share_work is None:
            return None
        records = wait_for_records(out, benchmark.keys)
        if benchmark.share_work is not None:
            benchmark.share_work(share)
        if share.rank > 0:
            return None
        results = [_completed(result, benchmark, described, records) for result in benchmark.finish(records)]
        write_results(results, out)
    return results


def write_results(results: Sequence[Result], out: Path) -> list[Path]:
    """Write one JSON file for each result and all tables to ``table.txt``; returns the JSON files."""
    paths = [out / f"{result.slug}.json" for result in results]
    for result, path in zip(results, paths, strict=True):
        result.write(path)
    if results:
        write_text(out / "table.txt", "".join(f"{result.table()}\n" for result in results))
    return paths


def balanced_subset(
    groups: Mapping[str, Sequence[T]], limit: int | None, what: str
) -> tuple[dict[str, list[T]], str | None]:
    """At most ``limit`` items in all, equally many of each group, and a sentence that says so; None for all items.

    Items are sampled with a fixed seed and keep their order: evenly spaced items would all have the same answer in
    benchmarks whose answers alternate. what: the items in words. Raises ValueError when a group would be empty.
    """
    total = sum(map(len, groups.values()))
    if limit is None or limit >= total:
        return {name: list(items) for name, items in groups.items()}, None
    if limit < len(groups):
        raise ValueError(f"--limit is {limit}, but must be at least {len(groups)}: each part needs {what}")
    quotas = dict.fromkeys(groups, 0)
    left = limit
    while left:
        for name in [name for name, items in groups.items() if quotas[name] < len(items)][:left]:
            quotas[name] += 1
            left -= 1
    rng = random.Random(0)
    chosen = {
        name: [items[place] for place in sorted(rng.sample(range(len(items)), quotas[name]))]
        for name, items in groups.items()
    }
    # stored in run.json and in results, where a changed sentence would be another run
    subset = f"{limit:,} of {total:,} {what}, drawn evenly from all parts; not comparable with all of them"
    return chosen, subset


def _described(benchmark: Benchmark, model: Model) -> dict[str, Any]:
    described = {**model.described(), **benchmark.settings}
    if benchmark.questions:
        described |= {"decoding": "greedy", "most new tokens": benchmark.max_new_tokens}
    if any(len(item.images) > 1 for item in benchmark.questions):
        described[SEVERAL] = ONE_BY_ONE if model.shows_several else JOINED
    if benchmark.prompts or benchmark.edits:
        described |= {"seed": model.seed, "temperature": model.temperature, "guidance": model.guidance}
    if benchmark.edits:
        described["image guidance"] = model.image_guidance
    if benchmark.subset is not None:
        described["subset"] = benchmark.subset
    return described


def _items_digest(benchmark: Benchmark) -> str:
    texts = [f"{item.key}\n{item.question}" for item in benchmark.questions]
    texts += [f"{item.key}\n{item.prompt}\n{len(item.files)}" for item in benchmark.prompts]
    texts += [f"{item.key}\n{item.instruction}" for item in benchmark.edits]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def _completed(result: Result, benchmark: Benchmark, settings: Mapping[str, Any], records: Records) -> Result:
    """The result with the run's settings and the number of truncated replies."""
    complete = {**settings, **result.settings, "pairuni": __version__}
    for generated in (benchmark.prompts, benchmark.edits):
        if generated:
            complete |= records[generated[0].key]
    counts = dict(result.counts)
    if benchmark.questions:
        counts["cut at the limit"] = sum(not records[item.key]["finished"] for item in benchmark.questions)
    return replace(result, settings=complete, counts=counts)
