"""The evaluation that a training run repeats every ``evaluation.every`` steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pairuni.config import RunSettings
from pairuni.console.counts import counted
from pairuni.console.progress import Progress
from pairuni.digits.evaluation import evaluate
from pairuni.digits.questions import QUESTION_SETS
from pairuni.digits.world import held_out_items
from pairuni.distributed.world import World
from pairuni.pairgrpo.held_out import HeldOutPairs
from pairuni.pairgrpo.rollout import Rewards
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import UGPair
from pairuni.runs.evaluations import read_step_evaluations
from pairuni.runs.folder import RunFolder, step_name


def evaluation_in_training(
    settings: RunSettings,
    held_out: Sequence[UGPair],
    rewards: Rewards,
    out: Path,
    world: World | None = None,
) -> Callable[[UnifiedPolicy, int], Mapping[str, float]] | None:
    """The function that scores a policy after a step; None when the run never evaluates.

    held_out: the pairs of the task "pairs", which are not trained on. out: the run's folder, which keeps the images.
    world: its ranks share out the held-out items.
    Raises ValueError when ``out`` holds evaluations on other items, whose scores would not be comparable.
    """
    chosen, world = settings.evaluation, world or World()
    if chosen.every == 0:
        return None
    if chosen.task == "pairs":
        _check_same_items(
            out,
            [pair.understand_ann.question for pair in held_out],
            [pair.generate_ann.prompt for pair in held_out],
        )
        return HeldOutPairs(
            pairs=held_out,
            image_folder=(chosen.pairs or settings.data.pairs).parent,
            rewards=rewards,
            rollout=settings.rollout,
            pairs_per_batch=settings.pairgrpo.pairs_per_batch,
            seed=settings.seed,
            run=RunFolder(out),
            world=world,
        )
    items = held_out_items(settings.seed, chosen.items, QUESTION_SETS[chosen.task])
    _check_same_items(
        out, [one.question.text for one in items.understanding], [one.prompt for one in items.generation]
    )

    def score(policy: UnifiedPolicy, step: int) -> Mapping[str, float]:
        shown = f"held-out scenes at step {step}"
        total = len(world.share.of(len(items.understanding))) + len(world.share.of(len(items.generation)))
        with Progress(shown, total=total, unit="items", quiet=not world.is_main) as progress:
            result = evaluate(
                policy,
                items,
                guidance=settings.rollout.guidance,
                seed=settings.seed,
                advance=progress.advance,
                world=world,
            )
        world.on_main(lambda: result.write(RunFolder(out).evaluation, step_name(step)))
        return result.scores()

    return score


def _check_same_items(out: Path, questions: Sequence[str], prompts: Sequence[str]) -> None:
    for evaluation in read_step_evaluations(out):
        earlier_questions = [item.question for item in evaluation.understanding.items]
        earlier_prompts = [item.prompt for item in evaluation.generation.items]
        if (earlier_questions, earlier_prompts) != (list(questions), list(prompts)):
            raise ValueError(
                f"{out} was evaluated on {counted(len(earlier_questions), 'question')} and "
                f"{counted(len(earlier_prompts), 'prompt')} at step {evaluation.step}, which "
                f"are not the {len(questions)} and {len(prompts)} that the settings hold out: restore "
                "evaluation.items, evaluation.pairs and evaluation.task, or train into another folder"
            )
