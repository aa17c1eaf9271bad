"""The held-out scores of the tiny Lumina-DiMOO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairuni.digits.evaluation import MAX_NEW_TOKENS, Evaluation, Marked, mark_images, mark_replies
from pairuni.digits.world import Asked, HeldOut, Prompted
from pairuni.policies.lumina_dimoo.loading import LuminaCheckpoint
from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from pairuni.policies.lumina_dimoo.prompts import LuminaPrompts
from pairuni.policies.lumina_dimoo.sampling import sample
from pairuni.policies.lumina_dimoo.schedule import picture_steps, text_steps
from pairuni.policies.lumina_dimoo.traces import Task, Trace
from tools.tiny_lumina.model import SIDE


@dataclass(frozen=True)
class Decoding:
    """length: tokens of an answer; text_steps: of greedy answers; picture_steps: of pictures at temperature 1."""

    length: int = MAX_NEW_TOKENS
    text_steps: int = 4
    picture_steps: int = 8
    guidance: float = 2.0
    seed: int = 0


def score(checkpoint: LuminaCheckpoint, items: HeldOut, decoding: Decoding) -> Evaluation:
    """Every held-out item, marked as in ``pairuni eval digits``."""
    return Evaluation(
        _answers(checkpoint, items.understanding, decoding),
        _pictures(checkpoint, items.generation, decoding),
    )


def _answers(checkpoint: LuminaCheckpoint, asked: Sequence[Asked], decoding: Decoding) -> list[Marked]:
    prompts = LuminaPrompts(checkpoint.tokenizer, checkpoint.ids)
    end = checkpoint.ids.end
    codes = checkpoint.vq.encode([one.image for one in asked])
    tasks = [
        Task(
            kind="text",
            prompt=prompts.question(one.question.text, picture),
            canvas=prompts.text_canvas(decoding.length),
            steps=text_steps(decoding.length, decoding.length, decoding.text_steps),
            temperature=0.0,
            stop_ids=(end,),
            noise=(decoding.seed, index),
        )
        for index, (one, picture) in enumerate(zip(asked, codes, strict=True))
    ]
    replies = []
    for trace in _sampled(checkpoint, tasks):
        tokens = trace.choices.tolist()
        words = tokens[: tokens.index(end)] if end in tokens else tokens
        replies.append(checkpoint.tokenizer.decode(words, skip_special_tokens=True))
    return mark_replies(asked, replies)


def _pictures(checkpoint: LuminaCheckpoint, prompted: Sequence[Prompted], decoding: Decoding) -> list[Marked]:
    prompts = LuminaPrompts(checkpoint.tokenizer, checkpoint.ids)
    tasks = [
        Task(
            kind="codes",
            prompt=prompts.drawing(one.prompt, decoding.guidance),
            canvas=prompts.picture_canvas(SIDE, SIDE),
            steps=picture_steps(SIDE * SIDE, decoding.picture_steps),
            temperature=1.0,
            noise=(decoding.seed, index),
        )
        for index, one in enumerate(prompted)
    ]
    codes = [trace.choices.view(SIDE, SIDE) for trace in _sampled(checkpoint, tasks)]
    return mark_images(prompted, checkpoint.vq.decode(codes))


def _sampled(checkpoint: LuminaCheckpoint, tasks: Sequence[Task]) -> list[Trace]:
    return [trace for [trace] in sample(LuminaDimoo(checkpoint.model, checkpoint.ids), tasks, 1)]
