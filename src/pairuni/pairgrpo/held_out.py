"""Evaluation on held-out pairs during training: scores of both tasks by the run's own rewards."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pairuni.config import RolloutSettings
from pairuni.console.progress import Progress
from pairuni.distributed.shares import cut
from pairuni.distributed.world import World
from pairuni.pairgrpo.rollout import Rewards, load_question_images
from pairuni.policies.images import side_by_side
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import ImageSampling, TextSampling, shown_images
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
    so that only the policy makes evaluations differ. world: its ranks share out the pairs, rank 0 writes the files,
    and all return the same scores.
    """

    pairs: Sequence[UGPair]
    image_folder: Path
    rewards: Rewards
    rollout: RolloutSettings
    pairs_per_batch: int
    seed: int
    run: RunFolder
    world: World = field(default_factory=World)

    def __call__(self, policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        """Mean reward of each task; items and images go to ``evaluation/`` in the run's folder.

        Raises ValueError when an image does not open, RewardError when a reward fails.
        """
        own = self.world.share.of(len(self.pairs))
        answers: list[str] = []
        images: list[Image.Image] = []
        progress = Progress(
            f"held-out pairs at step {step}", total=len(own), unit="pairs", quiet=not self.world.is_main
        )
        with progress:
            for places in cut(own, _BATCH):
                new_answers, new_images = self._sample(policy, places)
                answers += new_answers
                images += new_images
                progress.advance(len(new_answers))
        pairs = [self.pairs[place] for place in own]
        terms: dict[Task, Terms] = {
            "understanding": self._scores("understanding", [pair.understand_ann for pair in pairs], answers),
            "generation": self._scores("generation", [pair.generate_ann for pair in pairs], images),
        }
        shown = images[: max(0, SHOWN - own.start)]
        return self._collect(step, answers, shown, terms)

    def _sample(self, policy: UnifiedPolicy, places: range) -> tuple[list[str], list[Image.Image]]:
        """Answers and images of the pairs at ``places``, which belong to one batch."""
        pairs = self.pairs[places.start : places.stop]
        first = places.start % _BATCH
        start = places.start - first
        questions = [pair.understand_ann for pair in pairs]
        answers, image_groups = policy.sample(
            TextSampling(
                images=load_question_images(self.image_folder, questions),
                questions=[record.question for record in questions],
                temperature=0.0,
                max_new_tokens=self.rollout.max_new_tokens,
                seed=derive_seed(self.seed, start, 0),
                first_prompt=first,
            ),
            ImageSampling(
                prompts=[pair.generate_ann.prompt for pair in pairs],
                temperature=self.rollout.temperature,
                top_k=self.rollout.top_k,
                top_p=self.rollout.top_p,
                guidance=self.rollout.guidance,
                branch=self.rollout.branch,
                seed=derive_seed(self.seed, start, 1),
                first_prompt=first,
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

    def _collect(
        self, step: int, answers: list[str], images: list[Image.Image], terms: Mapping[Task, Terms]
    ) -> dict[str, float]:
        """Gather what the ranks sampled; rank 0 writes it. The mean reward of each task."""
        parts = self.world.gather((answers, images, terms))
        all_terms: dict[Task, Terms] = {
            task: _joined([terms[task] for _, _, terms in parts]) for task in TASKS
        }
        rewards = {task: total_scores(self.rewards.task(task), all_terms[task]) for task in TASKS}

        def write() -> None:
            all_answers = [answer for answers, _, _ in parts for answer in answers]
            self._write(
                step, all_answers, [one for _, images, _ in parts for one in images], all_terms, rewards
            )

        self.world.on_main(write)
        return {task: statistics.fmean(rewards[task]) for task in TASKS}

    def _write(
        self,
        step: int,
        answers: Sequence[str],
        images: Sequence[Image.Image],
        terms: Mapping[Task, Terms],
        rewards: Mapping[Task, Sequence[float]],
    ) -> None:
        """Write items and the images of the first ones."""
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
        for task in TASKS:
            for index, item in enumerate(items[task]):
                item["reward"] = rewards[task][index]
                if len(terms[task]) > 1:
                    item["terms"] = {name: scores[index] for name, scores in terms[task].items()}
        for index, pair in enumerate(self.pairs[:SHOWN]):
            question_image = self.run.evaluation / "asked" / f"{index:03d}.png"
            if not question_image.exists():
                (shown,) = load_question_images(self.image_folder, [pair.understand_ann])
                save_png(side_by_side(shown_images(shown)), question_image)
            sampled_image = self.run.evaluation / step_name(step) / question_image.name
            save_png(images[index], sampled_image)
            for task, path in (("understanding", question_image), ("generation", sampled_image)):
                items[task][index]["image"] = path.relative_to(self.run.root).as_posix()
        write_step_evaluation(
            self.run,
            step,
            {
                task: {
                    "score": statistics.fmean(rewards[task]),
                    "count": len(self.pairs),
                    "items": items[task],
                }
                for task in TASKS
            },
        )


def _joined(parts: Sequence[Terms]) -> Terms:
    """The terms of all ranks; a rank without pairs has none."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [score for part in parts for score in part.get(name, ())] for name in names}
