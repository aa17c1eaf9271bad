"""Several public benchmarks of one model: checked together, run one after the other."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pairuni.config import RolloutSettings, SuiteSettings
from pairuni.config.evaluation import BenchmarkSettings
from pairuni.distributed.shares import share_of
from pairuni.evaluation.benchmark import Benchmark, run_benchmark
from pairuni.evaluation.model import Model
from pairuni.evaluation.result import Result
from pairuni.evaluation.running import benchmark_of
from pairuni.io.files import write_text
from pairuni.io.locks import folder_lock
from pairuni.pairgrpo.cards import BANDWIDTH, Card
from pairuni.pairgrpo.plan import cache_bytes_per_token
from pairuni.policies.costs import RolloutCost
from pairuni.policies.policy import UnifiedPolicy

TABLES = "table.txt"


@dataclass(frozen=True)
class Part:
    """One benchmark of a suite."""

    settings: BenchmarkSettings
    benchmark: Benchmark

    @property
    def images(self) -> int:
        """Images that it generates."""
        return sum(len(item.files) for item in self.benchmark.prompts) + len(self.benchmark.edits)


def read_suite(settings: SuiteSettings) -> dict[str, Part]:
    """The benchmarks of a suite with their files, judges and detectors, so that what is missing is known at once.

    Raises FileNotFoundError and ValueError naming what is missing.
    """
    return {
        name: Part(chosen, benchmark_of(name, chosen, chosen.out)) for name, chosen in settings.chosen.items()
    }


def run_suite(parts: Mapping[str, Part], out: Path) -> dict[str, list[Result]]:
    """Run the benchmarks in order; the results by name, empty in all processes but the first.

    At the end, all tables are written to ``out``/table.txt. A benchmark without judge or detector has no results.
    Raises what ``run_benchmark`` raises.
    """
    share = share_of(os.environ)
    found: dict[str, list[Result]] = {}
    for name, part in parts.items():
        settings = part.settings
        with folder_lock(settings.out, f"eval {part.benchmark.name}", rank=share.rank):
            results = run_benchmark(
                part.benchmark, Model.of(settings), settings.out, share, settings=settings
            )
        if results is not None:
            found[name] = results
    if share.rank == 0:
        tables = [result.table() for results in found.values() for result in results]
        write_text(out / TABLES, "".join(f"{table}\n" for table in [*tables, *unscored(parts, found)]))
    return found


def suite_seconds(
    parts: Mapping[str, Part], policy: UnifiedPolicy, card: Card, gpus: int
) -> dict[str, float]:
    """Seconds of decoding of each benchmark on ``gpus`` cards in bfloat16, at most; judges and detectors not counted.

    policy: its skeleton suffices. Each step reads the weights and half of the longest keys and values, at a share of
    the bandwidth, and every reply has all of its tokens.
    """
    parameters = sum(parameter.numel() for parameter in policy.module.parameters())
    weights = parameters * torch.bfloat16.itemsize
    per_token = cache_bytes_per_token(policy, torch.bfloat16)

    def seconds(count: int, size: int, cost: RolloutCost) -> float:
        rounds = math.ceil(math.ceil(count / size) / gpus)
        read = cost.steps * (weights + min(size, count) * cost.cached * per_token / 2)
        return rounds * read / (BANDWIDTH * card.bandwidth)

    one = RolloutSettings().model_copy(update={"understanding": 1, "generation": 1})
    found = {}
    for name, part in parts.items():
        size, benchmark = part.settings.batch_size, part.benchmark
        found[name] = 0.0
        if benchmark.questions:
            rollout = one.model_copy(update={"max_new_tokens": benchmark.max_new_tokens})
            found[name] += seconds(len(benchmark.questions), size, policy.text_cost(rollout))
        if part.images:
            guidance = getattr(part.settings, "guidance", None)
            rollout = one if guidance is None else one.model_copy(update={"guidance": guidance})
            found[name] += seconds(part.images, size, policy.image_cost(rollout))
    return found


def unscored(parts: Mapping[str, Part], results: Mapping[str, Sequence[Result]]) -> list[str]:
    """What to do for the benchmarks that have generated images and no score."""
    return [parts[name].benchmark.unscored for name, found in results.items() if not found]
