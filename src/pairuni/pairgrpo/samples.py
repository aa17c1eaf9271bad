"""Samples of a run on disk: pictures, answers and what they earned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairuni.pairgrpo.rollout import RolloutBatch
from pairuni.training.tracking import MetricsLog


def save_samples(folder: Path, batch: RolloutBatch, *, step: int, pairs: int = 4) -> None:
    """Write a batch's first ``pairs`` pairs: PNGs in ``folder/step-<step>``, a line each in samples.jsonl.

    A line: step, similarity, pair_weight, kind, prompt, pictures [{image, reward, advantage}], image_path,
    question, answer, answers [{text, reward, advantage}]. ``image`` is relative to ``folder``; advantages are
    those that trained, pair weight included.
    """
    pictures = folder / f"step-{step:06d}"
    pictures.mkdir(parents=True, exist_ok=True)
    log = MetricsLog(folder / "samples.jsonl")
    answers = _entries(batch, "understanding")
    drawings = _entries(batch, "generation")
    for index, pair in enumerate(batch.pairs[:pairs]):
        drawn = []
        for rollout, (picture, reward, advantage) in enumerate(drawings[index]):
            file = pictures / f"{index}-{rollout}.png"
            picture.save(file)
            drawn.append({"image": str(file.relative_to(folder)), "reward": reward, "advantage": advantage})
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
                "answers": [
                    {"text": text, "reward": reward, "advantage": advantage}
                    for text, reward, advantage in answers[index]
                ],
            }
        )


def _entries(batch: RolloutBatch, task: Any) -> list[list[tuple[Any, float, float]]]:
    rollouts = batch.task(task)
    flat = list(
        zip(
            rollouts.samples,
            rollouts.rewards.flatten().tolist(),
            batch.weighted_advantages(task).tolist(),
            strict=True,
        )
    )
    size = rollouts.group_size
    return [flat[start : start + size] for start in range(0, len(flat), size)]
