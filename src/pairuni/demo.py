"""The full pipeline on the digits world: raw data -> PairUG -> PairGRPO -> held-out scores -> report."""

from __future__ import annotations

import json
import logging
import time
from contextlib import nullcontext
from pathlib import Path

from pairuni.config import PairsSettings, RunSettings, load_settings, shipped_recipe, to_toml
from pairuni.console.progress import Progress, Stages
from pairuni.digits.annotator import SceneAnnotator
from pairuni.digits.evaluation import Evaluation, evaluate
from pairuni.digits.world import HeldOut, held_out_items, write_world
from pairuni.distributed.world import World
from pairuni.io.files import clear_partial, write_text
from pairuni.io.locks import folder_lock
from pairuni.pairgrpo.preparation import strategy_for
from pairuni.pairgrpo.rollout import Rewards
from pairuni.pairgrpo.trainer import Trainer
from pairuni.pairug.build import BuildSummary, build_pairs
from pairuni.pairug.dataset.store import read_pairs
from pairuni.policies import UnifiedPolicy, load_policy
from pairuni.report import write_report
from pairuni.runs.folder import RunFolder

logger = logging.getLogger("pairuni")

SAMPLES = 1500
"""Raw samples of each task that the demo's world writes down."""
HELD_OUT = 510
"""Held-out items of each task, a multiple of the six prompt kinds and the five question kinds."""


def demo_settings(seed: int, pairs: Path) -> RunSettings:
    """The settings of the demo's training: the recipe digits with this seed and these pairs."""
    return load_settings(RunSettings, shipped_recipe("digits"), [f"--seed={seed}", f"--data.pairs={pairs}"])


def run_demo(seed: int, out: Path, world: World | None = None) -> Path:
    """Run the full pipeline into ``out`` and return the path of report.html.

    summary.json holds seed, seconds and the scores before and after, each in [0, 1]. A demo that was stopped
    resumes. world: its ranks share out training and evaluation; rank 0 writes. Raises ValueError when ``out`` holds a
    finished run, or one of another seed, and when another process is at work there.
    """
    world = world or World()
    with folder_lock(out, "demo") if world.is_main else nullcontext():
        return _run_demo(seed, out, world)


def _run_demo(seed: int, out: Path, world: World) -> Path:
    start = time.monotonic()
    settings = demo_settings(seed, out / "pairug" / "pairs.jsonl")
    world.on_main(lambda: _begin(settings, out))
    policy = load_policy(settings.policy.model, dtype=settings.policy.dtype)
    built = world.on_main(lambda: build_digits(policy, seed, out, SAMPLES))
    pairs = read_pairs(settings.data.pairs)
    items = held_out_items(seed, HELD_OUT)

    before = _evaluate(policy, items, settings, "held-out before", world)
    world.on_main(lambda: before.write(out / "evaluation", "before"))
    rewards = Rewards.from_settings(settings.reward)
    strategy = strategy_for(settings, policy, world, rewards)
    trainer = Trainer(settings, policy, pairs, rewards, out, strategy=strategy)
    run = RunFolder(out)
    begun = world.on_main(lambda: run.metrics.exists() or run.checkpoints.exists())
    result = trainer.run(resume=begun)
    if result.interrupted:
        logger.warning("the same command resumes from here")
        raise KeyboardInterrupt
    after = _evaluate(policy, items, settings, "held-out after", world)
    return world.on_main(
        lambda: _finish(out, seed, time.monotonic() - start + result.earlier_seconds, before, after, built)
    )


def _begin(settings: RunSettings, out: Path) -> None:
    if (out / "summary.json").exists():
        raise ValueError(f"{out} already holds a run; choose another folder with --out, or remove it")
    clear_partial(out)
    config = out / "config.toml"
    if config.exists() and load_settings(RunSettings, config).seed != settings.seed:
        raise ValueError(f"{out} holds an unfinished run of another seed; choose another folder with --out")
    write_text(config, to_toml(settings))


def _finish(
    out: Path, seed: int, seconds: float, before: Evaluation, after: Evaluation, built: BuildSummary
) -> Path:
    """Write the scores; returns the path of report.html."""
    after.write(out / "evaluation", "after")
    summary = {
        "seed": seed,
        "seconds": round(seconds, 1),
        "before": before.scores(),
        "after": after.scores(),
        "held_out": HELD_OUT,
        "pairs": built.to_json(),
    }
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    scores = [
        f"{task} {100 * score:.0f}% -> {100 * after.scores()[task]:.0f}%"
        for task, score in before.scores().items()
    ]
    logger.info("held-out accuracy: %s", ", ".join(scores))
    return write_report(out)


def build_digits(policy: UnifiedPolicy, seed: int, out: Path, samples: int) -> BuildSummary:
    """Write the world's raw data and pair it, with the policy's own vision tower as image encoder.

    samples: of each task. The pairs are in ``out/pairug``.
    """
    world = write_world(out / "world", seed=seed, understanding=samples, generation=samples)
    settings = PairsSettings(
        understanding=[str(world.understanding)],
        generation=[str(world.generation)],
        out=out / "pairug",
        annotator="scene",
        encoder="policy:tiny",
        matching="sequential",
        clustering="reference",
        seed=seed,
    )
    with Stages("pairs: ") as stages:
        return build_pairs(
            settings,
            encoder=lambda images: policy.image_features(images).numpy(),
            annotator=SceneAnnotator(),
            advance=stages.advance,
        )


def _evaluate(
    policy: UnifiedPolicy, items: HeldOut, settings: RunSettings, shown: str, world: World
) -> Evaluation:
    total = 2 * len(world.share.of(HELD_OUT))
    with Progress(shown, total=total, unit="items", quiet=not world.is_main) as progress:
        return evaluate(
            policy,
            items,
            guidance=settings.rollout.guidance,
            seed=settings.seed,
            advance=progress.advance,
            world=world,
        )
