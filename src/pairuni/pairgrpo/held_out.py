"""Both tasks on pairs that a run does not train on: scores by the run's own rewards, with images."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.config import RolloutSettings
from pairuni.io.files import atomic_write, write_text
from pairuni.pairgrpo.rollout import TASKS, Rewards, Task, load_pair_image
from pairuni.policies.policy import ImageSampling, TextSampling, UnifiedPolicy
from pairuni.records import Annotation, UGPair
from pairuni.rewards.weighted import scores_by_term, total_scores
from pairuni.training.seeding import derive_seed
from pairuni.training.tracking import Progress, scores_in_words

logger = logging.getLogger("pairuni")

SHOWN = 12
"""Pairs whose images are kept, of each look."""
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class HeldOutPairs:
    """What ``Trainer`` calls to look at a policy: a greedy answer and one image for each pair.

    image_folder: what the pairs' image paths are relative to. out: the run's folder. pairs_per_batch: those of
    training; rewards are asked for as many samples at once as a step has, so that their time limit means the same.
    Images are drawn with the same noise each time, so that looks differ by the policy alone.
    """

    pairs: Sequence[UGPair]
    image_folder: Path
    rewards: Rewards
    rollout: RolloutSettings
    pairs_per_batch: int
    seed: int
    out: Path

    def __call__(self, policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        """Mean reward of each task; answers, images and rewards go to ``evaluation/step-<step>.json``.

        Raises ValueError when an image does not open, RewardError when a reward fails.
        """
        answers: list[str] = []
        pictures: list[Image.Image] = []
        total = len(self.pairs)
        with Progress(f"held-out pairs at step {step}", total=total, unit="pairs") as progress:
            for start in range(0, total, _BATCH):
                said, drawn = self._sample(policy, self.pairs[start : start + _BATCH], start)
                answers += said
                pictures += drawn
                progress.advance(len(said))
        terms: dict[Task, dict[str, list[float]]] = {
            "understanding": self._scores(
                "understanding", [pair.understand_ann for pair in self.pairs], answers
            ),
            "generation": self._scores("generation", [pair.generate_ann for pair in self.pairs], pictures),
        }
        means = self._write(step, answers, pictures, terms)
        logger.info("held-out pairs at step %d: %s", step, scores_in_words(means))
        return means

    def _scores(
        self, task: Task, records: Sequence[Annotation], samples: Sequence[Any]
    ) -> dict[str, list[float]]:
        """What each term of the task's reward gives each sample."""
        size = self.pairs_per_batch * getattr(self.rollout, task)
        terms: dict[str, list[float]] = {}
        for start in range(0, len(samples), size):
            batch = slice(start, start + size)
            reward, limit = self.rewards.task(task), self.rewards.timeout
            given = scores_by_term(reward, records[batch], samples[batch], timeout=limit)
            for name, scores in given.items():
                terms.setdefault(name, []).extend(scores)
        return terms

    def _sample(
        self, policy: UnifiedPolicy, pairs: Sequence[UGPair], start: int
    ) -> tuple[list[str], list[Image.Image]]:
        asked = [pair.understand_ann for pair in pairs]
        answers, drawings = policy.sample(
            TextSampling(
                images=[load_pair_image(self.image_folder / record.image_path) for record in asked],
                questions=[record.question for record in asked],
                rollouts=1,
                temperature=0.0,
                max_new_tokens=self.rollout.max_new_tokens,
                seed=derive_seed(self.seed, start, 0),
            ),
            ImageSampling(
                prompts=[pair.generate_ann.prompt for pair in pairs],
                rollouts=1,
                temperature=self.rollout.temperature,
                guidance=self.rollout.guidance,
                branch=self.rollout.branch,
                seed=derive_seed(self.seed, start, 1),
            ),
        )
        pictures = policy.decode_images([group[0] for group in drawings])
        return [group[0].text for group in answers], pictures

    def _write(
        self,
        step: int,
        answers: Sequence[str],
        pictures: Sequence[Image.Image],
        terms: Mapping[Task, Mapping[str, Sequence[float]]],
    ) -> dict[str, float]:
        """Write the look and its images; the mean reward of each task."""
        name = f"step-{step:06d}"
        folder = self.out / "evaluation"
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "asked").mkdir(exist_ok=True)
        rewards = {task: total_scores(self.rewards.task(task), terms[task]) for task in TASKS}
        items: dict[Task, list[dict[str, Any]]] = {"understanding": [], "generation": []}
        for index, pair in enumerate(self.pairs):
            question, prompt = pair.understand_ann, pair.generate_ann
            row = {"question": question.question, "answer": question.answer, "reply": answers[index].strip()}
            items["understanding"].append(row)
            items["generation"].append({"prompt": prompt.prompt})
            for task in TASKS:
                items[task][-1]["reward"] = rewards[task][index]
                if len(terms[task]) > 1:
                    items[task][-1]["terms"] = {name: scores[index] for name, scores in terms[task].items()}
            if index < SHOWN:
                seen = folder / "asked" / f"{index:03d}.png"
                if not seen.exists():
                    _save(load_pair_image(self.image_folder / question.image_path), seen)
                drawn = folder / name / f"{index:03d}.png"
                _save(pictures[index], drawn)
                items["understanding"][-1]["image"] = seen.relative_to(self.out).as_posix()
                items["generation"][-1]["image"] = drawn.relative_to(self.out).as_posix()
        means: dict[str, float] = {task: statistics.fmean(rewards[task]) for task in TASKS}
        looked = {
            task: {"score": means[task], "count": len(self.pairs), "items": items[task]} for task in TASKS
        }
        write_text(folder / f"{name}.json", json.dumps({"step": step, **looked}, indent=1) + "\n")
        return means


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_write(path) as aside:
        picture.save(aside, format="PNG")
