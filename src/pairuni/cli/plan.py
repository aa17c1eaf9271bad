"""The estimate of ``pairuni train --dry-run`` as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from pairuni.config import RunSettings
from pairuni.console.counts import counted
from pairuni.pairgrpo.cards import BANDWIDTH, CARDS, COMPUTE, LINK, NODE, NODES, USABLE, Card
from pairuni.pairgrpo.plan import ERROR, Plan, choose_strategy, disk_bytes, plan_run, size_in_words
from pairuni.pairgrpo.schedule import steps_of, warmup_of
from pairuni.pairgrpo.turns import TURNS
from pairuni.policies.policy import UnifiedPolicy


def describe_steps(settings: RunSettings, pairs: int) -> str:
    """The number of steps of a run on so many pairs, the passes over them, and the warm-up."""
    grpo = settings.pairgrpo
    steps, size = steps_of(grpo, pairs), grpo.pairs_per_batch * grpo.batches_per_step
    rounds = steps // len(TURNS[grpo.tasks])
    said = f"{steps:,} of {counted(size, 'pair')}, {rounds * size / pairs:.3g} epochs"
    warmup = warmup_of(grpo, steps)
    return f"{said}, {warmup:,} of warm-up" if warmup else said


def describe_plan(settings: RunSettings, plan: Plan, dtype: torch.dtype) -> str:
    """Parameters, memory, disk and tokens."""
    memory = [(f"  {name}", said) for name, said in _memory(plan)]
    rows = [
        ("parameters", f"{plan.parameters:,}"),
        ("  trained", f"{plan.trained:,}"),
        ("memory, estimated", size_in_words(plan.peak)),
        *memory,
        ("disk, estimated", _disk(settings, plan, dtype)),
        ("tokens a step", f"at most {plan.sampled_tokens:,} sampled"),
        ("", f"at most {plan.replayed_tokens:,} replayed in each update"),
    ]
    return _lines(rows)


def describe_reward_models(sizes: Mapping[str, int]) -> str:
    """``reward_model_bytes``, one device a line."""
    return _lines(
        [("reward models", f"{size_in_words(size)} of weights on {device}") for device, size in sizes.items()]
    )


def describe_cards(plan: Plan, dtype: torch.dtype, reward_models: int) -> str:
    """Which GPUs hold the run and its reward models, and about how long a step takes there."""
    rows = []
    for card in CARDS:
        if plan.fits(card, reward_models):
            taken = _duration(plan.step_seconds(card, dtype))
            rows.append(f"{card.name}: fits, about {taken} a step without rewards")
        else:
            rows.append(f"{card.name}: does not fit")
    return _lines([("" if index else "one GPU, estimated", row) for index, row in enumerate(rows)])


def describe_gpus(
    settings: RunSettings,
    policy: UnifiedPolicy,
    gpus: int,
    reward_models: int,
    cards: Sequence[Card] = NODES,
    images: int = 1,
) -> str:
    """Memory and time of a run on ``gpus`` of each kind, which compute in bfloat16 unless settings say float32.

    reward_models: bytes of the rewards' weights, which each process holds. images: the most that a question shows.
    Raises ValueError for more GPUs than pairs.
    """
    pairs = settings.pairgrpo.pairs_per_batch * settings.pairgrpo.batches_per_step
    if gpus > pairs:
        raise ValueError(
            f"{gpus} processes cannot share {counted(pairs, 'pair')} per step; plan for fewer, or raise "
            "pairgrpo.pairs_per_batch, which counts those of all processes"
        )
    dtype = torch.float32 if settings.policy.dtype == "float32" else torch.bfloat16
    any_card = plan_run(settings, policy, dtype, world_size=gpus, images=images)
    rows = [
        ("parameters", f"{any_card.parameters:,}, of which {any_card.trained:,} train"),
        ("disk", _disk(settings, any_card, dtype)),
    ]
    shown: set[str] = set()
    for card in cards:
        rows += _on_card(settings, policy, dtype, card, gpus, reward_models, images, shown)
    links = "links" if gpus <= NODE else f"the network between nodes of {NODE} GPUs"
    notes = (
        f"{str(dtype).removeprefix('torch.')}. Memory of the process with the most pairs; the limit is {USABLE:.0%} of "
        "the GPU's. It was",
        f"within {ERROR:.0%} of peaks measured on a CPU. Time without rewards, at {BANDWIDTH:.0%} of the bandwidth, "
        f"{COMPUTE:.0%} of the",
        f"matrix rate and {LINK:.0%} of {links}. Nothing was measured on these GPUs.",
    )
    rows += [("" if index else "estimate", note) for index, note in enumerate(notes)]
    return _lines(rows)


def _on_card(
    settings: RunSettings,
    policy: UnifiedPolicy,
    dtype: torch.dtype,
    card: Card,
    gpus: int,
    reward_models: int,
    images: int,
    shown: set[str],
) -> Iterator[tuple[str, str]]:
    """The lines of one card. shown: tables of memory so far, which are not repeated."""
    strategy, reason = choose_strategy(
        settings, policy, gpus, card.memory, dtype=dtype, reward_models=reward_models, images=images
    )
    usable = card.usable - reward_models
    plan = plan_run(settings, policy, dtype, world_size=gpus, strategy=strategy, memory=usable, images=images)
    fits = plan.fits(card, reward_models)
    needed, limit = size_in_words(plan.peak + reward_models), size_in_words(card.usable)
    yield (
        f"{gpus} x {card.name}",
        f"fits: {needed} of {limit}" if fits else f"does not fit: {needed} of {limit}",
    )
    if gpus > 1:
        yield "  strategy", f"{strategy}: {reason}"
    if not fits:
        return
    memory = [*_memory(plan), *_if_any("reward models", reward_models)]
    if str(memory) not in shown:
        shown.add(str(memory))
        yield from ((f"  {name}", said) for name, said in memory)
    parts = {
        "rollout": plan.rollout_seconds(card, dtype),
        "update": plan.update_seconds(card, dtype),
        "communication": plan.communication_seconds(card, gpus),
    }
    named = ", ".join(f"{name} {_duration(seconds)}" for name, seconds in parts.items() if seconds)
    yield "  time a step", f"about {_duration(sum(parts.values()))}: {named}"


def _disk(settings: RunSettings, plan: Plan, dtype: torch.dtype) -> str:
    """The checkpoints that are there while one is written, and the trained model."""
    kept = settings.checkpoint
    most = kept.keep + kept.keep_best + 1 if kept.every else 1
    checkpoint, model = disk_bytes(settings, plan, dtype)
    checkpoints = counted(most, "checkpoint")
    return (
        f"{size_in_words(most * checkpoint + model)}: {checkpoints} of {size_in_words(checkpoint)}, "
        f"and the model, {size_in_words(model)}"
    )


def _memory(plan: Plan) -> list[tuple[str, str]]:
    """The parts of the peak; those of a simple run always, the others where they are not zero."""
    several = 0 < plan.micro_batch_tokens < plan.replayed_tokens
    passed = f", {plan.micro_batch_tokens:,} tokens a pass" if several else ""
    return [
        ("weights", size_in_words(plan.weights)),
        *_if_any("inference weights", plan.inference_weights),
        ("gradients", size_in_words(plan.gradients)),
        ("optimizer", size_in_words(plan.optimizer)),
        *_if_any("reference", plan.reference),
        *_if_any("gathered", plan.gathered, " (in the update)"),
        ("activations", f"{size_in_words(plan.activations)} (in the update{passed})"),
        *_if_any("keys and values", plan.rollout_cache, " (in the rollout)"),
    ]


def _if_any(name: str, size: int, note: str = "") -> list[tuple[str, str]]:
    return [(name, size_in_words(size) + note)] if size else []


def _lines(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<20}{value}" for name, value in rows)


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"
