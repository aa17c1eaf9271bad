"""Evaluation on held-out pairs during training: scores of both tasks by the run's own rewards."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.config import RolloutSettings
from pairuni.console.progress import Progress
from pairuni.pairgrpo.rollout import Rewards, load_pair_image
from pairuni.policies.policy import ImageSampling, TextSampling, UnifiedPolicy
from pairuni.records import TASKS, Annotation, Task, UGPair
from pairuni.rewards.weighted import scores_by_term, total_scores
from pairuni.runs.evaluations import write_step_evaluation
from pairuni.runs.folder import RunFolder, step_name
from pairuni.runs.samples import save_png
from pairuni.training.seeding import derive_seed

SHOWN = 12
"""Pairs of each evaluation whose images are kept."""
_BATCH = 64

Terms = Mapping[str, Sequence[float]]
"""Scores of the samples by each term of a reward."""


@dataclass(frozen=True, kw_only=True)
class HeldOutPairs:
    """Called by ``Trainer`` with the policy and the step: a greedy answer and one image for each pair.

    image_folder: what the pairs' image paths are relative to. pairs_per_batch: as in training, so that rewards get
    as many samples at once and their time limit means the same. Images are sampled with the same noise each time,
    so that only the policy makes evaluations differ.
    """

    pairs: Sequence[UGPair]
    image_folder: Path
    rewards: Rewards
    rollout: RolloutSettings
    pairs_per_batch: int
    seed: int
    run: RunFolder

    def __call__(self, policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        """Mean reward of each task; items and images go to ``evaluation/`` in the run's folder.

        Raises ValueError when an image does not open, RewardError when a reward fails.
        """
        answers: list[str] = []
        images: list[Image.Image] = []
        total = len(self.pairs)
        with Progress(f"held-out pairs at step {step}", total=total, unit="pairs") as progress:
            for start in range(0, total, _BATCH):
                new_answers, new_images = self._sample(policy, start)
                answers += new_answers
                images += new_images
                progress.advance(len(new_answers))
        terms: dict[Task, Terms] = {
            "understanding": self._scores(
                "understanding", [pair.understand_ann for pair in self.pairs], answers
            ),
            "generation": self._scores("generation", [pair.generate_ann for pair in self.pairs], images),
        }
        return self._write(step, answers, images, terms)

    def _sample(self, policy: UnifiedPolicy, start: int) -> tuple[list[str], list[Image.Image]]:
        pairs = self.pairs[start : start + _BATCH]
        questions = [pair.understand_ann for pair in pairs]
        answers, image_groups = policy.sample(
            TextSampling(
                images=[load_pair_image(self.image_folder / record.image_path) for record in questions],
                questions=[record.question for record in questions],
                temperature=0.0,
                max_new_tokens=self.rollout.max_new_tokens,
                seed=derive_seed(self.seed, start, 0),
            ),
            ImageSampling(
                prompts=[pair.generate_ann.prompt for pair in pairs],
                temperature=self.rollout.temperature,
                guidance=self.rollout.guidance,
                branch=self.rollout.branch,
                seed=derive_seed(self.seed, start, 1),
            ),
        )
        images = policy.decode_images([group[0] for group in image_groups])
        return [group[0].text for group in answers], images

    def _scores(self, task: Task, records: Sequence[Annotation], samples: Sequence[Any]) -> Terms:
        size = self.pairs_per_batch * getattr(self.rollout, task)
        terms: dict[str, list[float]] = {}
        for start in range(0, len(samples), size):
            batch = slice(start, start + size)
            scored = scores_by_term(
                self.rewards.task(task), records[batch], samples[batch], timeout=self.rewards.timeout
            )
            for name, scores in scored.items():
                terms.setdefault(name, []).extend(scores)
        return terms

    def _write(
        self,
        step: int,
        answers: Sequence[str],
        images: Sequence[Image.Image],
        terms: Mapping[Task, Terms],
    ) -> dict[str, float]:
        """Write items and images; the mean reward of each task."""
        items: dict[Task, list[dict[str, Any]]] = {
            "understanding": [
                {
                    "question": pair.understand_ann.question,
                    "answer": pair.understand_ann.answer,
                    "reply": answer.strip(),
                }
                for pair, answer in zip(self.pairs, answers, strict=True)
            ],
            "generation": [{"prompt": pair.generate_ann.prompt} for pair in self.pairs],
        }
        rewards = {task: total_scores(self.rewards.task(task), terms[task]) for task in TASKS}
        for task in TASKS:
            for index, item in enumerate(items[task]):
                item["reward"] = rewards[task][index]
                if len(terms[task]) > 1:
                    item["terms"] = {name: scores[index] for name, scores in terms[task].items()}
        for index, pair in enumerate(self.pairs[:SHOWN]):
            question_image = self.run.evaluation / "asked" / f"{index:03d}.png"
            if not question_image.exists():
                save_png(load_pair_image(self.image_folder / pair.understand_ann.image_path), question_image)
            sampled_image = self.run.evaluation / step_name(step) / question_image.name
            save_png(images[index], sampled_image)
            for task, path in (("understanding", question_image), ("generation", sampled_image)):
                items[task][index]["image"] = path.relative_to(self.run.root).as_posix()
        means: dict[str, float] = {task: statistics.fmean(rewards[task]) for task in TASKS}
        write_step_evaluation(
            self.run,
            step,
            {task: {"score": means[task], "count": len(self.pairs), "items": items[task]} for task in TASKS},
        )
        return means
