"""Samples of a run on disk: images, answers and what they earned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairuni.io.files import atomic_write
from pairuni.pairgrpo.rollout import RolloutBatch, Task
from pairuni.training.tracking import MetricsLog


def save_samples(folder: Path, batch: RolloutBatch, *, step: int, pairs: int = 4) -> None:
    """Write a batch's first ``pairs`` pairs: PNGs in ``folder/step-<step>``, a line each in samples.jsonl.

    A line: step, similarity, pair_weight, kind, prompt, images [{image, reward, advantage}], image_path,
    question, answer, answers [{text, reward, advantage}]. ``image`` is relative to ``folder``; advantages are
    those that trained, pair weight included. Where a reward is a sum, ``rewards`` holds its terms by name.
    """
    pictures = folder / f"step-{step:06d}"
    pictures.mkdir(parents=True, exist_ok=True)
    log = MetricsLog(folder / "samples.jsonl")
    answers = _entries(batch, "understanding")
    drawings = _entries(batch, "generation")
    for index, pair in enumerate(batch.pairs[:pairs]):
        drawn = []
        for rollout, (picture, earned) in enumerate(drawings[index]):
            file = pictures / f"{index}-{rollout}.png"
            with atomic_write(file) as aside:
                picture.save(aside, format="PNG")
            drawn.append({"image": str(file.relative_to(folder)), **earned})
        log.append(
            {
                "step": step,
                "similarity": pair.similarity,
                "pair_weight": float(batch.weights[index]),
                "kind": pair.kind,
                "prompt": pair.generate_ann.prompt,
                "pictures": drawn,
                "image_path": pair.understand_ann.image_path,
                "question": pair.understand_ann.question,
                "answer": pair.understand_ann.answer,
                "answers": [{"text": text, **earned} for text, earned in answers[index]],
            }
        )


def _entries(batch: RolloutBatch, task: Task) -> list[list[tuple[Any, dict[str, Any]]]]:
    """By pair: each sample, and what it earned."""
    rollouts = batch.task(task)
    earned: list[dict[str, Any]] = [
        {"reward": reward, "advantage": advantage}
        for reward, advantage in zip(
            rollouts.rewards.flatten().tolist(), batch.weighted_advantages(task).tolist(), strict=True
        )
    ]
    if len(rollouts.terms) > 1:
        for name, scores in rollouts.terms.items():
            for row, score in zip(earned, scores.flatten().tolist(), strict=True):
                row.setdefault("rewards", {})[name] = score
    flat = list(zip(rollouts.samples, earned, strict=True))
    size = rollouts.group_size
    return [flat[start : start + size] for start in range(0, len(flat), size)]
