"""Stage 2: the language model learns its tasks on the bank of images, with a curriculum.

The loss is the cross-entropy of masked positions. Of answers, their padding and pictures, shares drawn by the cosine
schedule are masked (Alpha-VLLM/Lumina-DiMOO, ``train/train.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from pairuni.digits.edits import Edit
from pairuni.digits.language import Request, sentence
from pairuni.digits.scenes import Scene
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.model import LuminaDimoo
from pairuni.policies.lumina_dimoo.prompts import Canvas, LuminaPrompts, Prompt
from pairuni.policies.lumina_dimoo.traces import row_of
from tools.pretraining.autocast import low_precision
from tools.pretraining.bank import Bank
from tools.pretraining.lessons import DESCRIBE, Stage, exercise
from tools.pretraining.schedule import Report, one_cycle
from tools.tiny_lumina.bank import EditBank

ANSWER, DESCRIPTION = 8, 24
"""Tokens of the canvas of an answer, and of a description."""
UNCONDITIONAL = 0.1
"""Share of drawings and edits without a text, to train the unconditional branch of guidance."""
_PADDING = 0.1
"""Weight of the loss of padding."""
_MUON = 5.0
"""Learning rate of Muon over that of AdamW."""


@dataclass(frozen=True, eq=False)
class Example:
    """ids: [L] with masks. places: [M] of the masks; targets: [M]; counts: masked tokens of content and of padding."""

    ids: Tensor
    places: Tensor
    targets: Tensor
    counts: tuple[int, int]


def masked(rng: np.random.Generator, count: int) -> np.ndarray:
    """Some of ``count`` places, at least one of them unless there is none, a share drawn by the cosine schedule."""
    chosen = math.ceil(count * math.cos(math.pi / 2 * rng.random()))
    return rng.permutation(count)[:chosen]


class Teacher:
    """Converts scenes to token sequences with masks."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, ids: TokenIds) -> None:
        self.tokenizer, self.ids = tokenizer, ids
        self.prompts = LuminaPrompts(tokenizer, ids)

    def text_example(self, rng: np.random.Generator, scene: Scene, codes: Tensor, stage: Stage) -> Example:
        """A question about the scene, whose picture has ``codes`` [h, w], and its answer."""
        question, answer = exercise(rng, scene, stage)
        canvas = self.prompts.text_canvas(DESCRIPTION if question == DESCRIBE else ANSWER)
        tokens = [*self.tokenizer(answer)["input_ids"], self.ids.end]
        content = len(tokens)
        tokens += [self.ids.padding] * (len(canvas.holes) - content)
        hidden = masked(rng, content), content + masked(rng, len(tokens) - content)
        return _example(self.prompts.question(question, codes).ids, canvas, torch.tensor(tokens), *hidden)

    def drawing_example(self, rng: np.random.Generator, request: Request, codes: Tensor) -> Example:
        """A prompt, sometimes the unconditional one, and its picture with ``codes`` [h, w]."""
        return self._picture(rng, self.prompts.drawing(sentence(request), guidance=2.0), codes)

    def edit_example(self, rng: np.random.Generator, edit: Edit, source: Tensor, target: Tensor) -> Example:
        """A picture with an instruction, sometimes without, and the edited picture; codes [h, w] of both."""
        prompt = self.prompts.editing(edit.instruction, source, guidance=2.0, image_guidance=1.0)
        return self._picture(rng, prompt, target)

    def _picture(self, rng: np.random.Generator, prompt: Prompt, codes: Tensor) -> Example:
        ((unconditional, _),) = prompt.unconditional
        ids = unconditional if rng.random() < UNCONDITIONAL else prompt.ids
        canvas = self.prompts.picture_canvas(*codes.shape)
        hidden = masked(rng, codes.numel())
        return _example(ids, canvas, codes.flatten() + self.ids.codes, hidden, hidden[:0])


def _example(
    prompt: Tensor, canvas: Canvas, tokens: Tensor, content: np.ndarray, padding: np.ndarray
) -> Example:
    hidden = torch.from_numpy(np.concatenate([content, padding]))
    shown = torch.ones(len(tokens), dtype=torch.bool)
    shown[hidden] = False
    return Example(
        ids=row_of(prompt, canvas, tokens[shown], shown.nonzero().squeeze(1)),
        places=len(prompt) + canvas.holes[hidden],
        targets=tokens[hidden],
        counts=(len(content), len(padding)),
    )


def losses(
    model: LuminaDimoo, texts: Sequence[Example], pictures: Sequence[Example]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cross-entropy of masked answers, padding and codes, in one forward pass."""
    examples = [*texts, *pictures]
    # Plain attention has a faster backward pass on a CPU for rows this short.
    with sdpa_kernel(SDPBackend.MATH):
        states = model.states([one.ids for one in examples], [one.places for one in examples])
    written, drawn = states.split([sum(len(one.places) for one in group) for group in (texts, pictures)])
    words = F.cross_entropy(
        model.text_head().logits(written), torch.cat([one.targets for one in texts]), reduction="none"
    )
    is_content = torch.cat([torch.arange(sum(one.counts)) < one.counts[0] for one in texts])
    codes = torch.cat([one.targets for one in pictures]) - model.ids.codes
    drawing = F.cross_entropy(model.code_head().logits(drawn), codes)
    return words[is_content].mean(), words[~is_content].mean(), drawing


def _optimizers(model: LlamaForCausalLM, learning_rate: float) -> tuple[Optimizer, Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, head and norms.

    With AdamW alone, the loss of drawing stays near that of the codes' frequencies for thousands of steps.
    """
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    of_muon = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in of_muon]
    return (
        torch.optim.Muon(matrices, lr=_MUON * learning_rate, momentum=0.95, weight_decay=0.05),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05),
    )


def train_language_model(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    ids: TokenIds,
    bank: Bank,
    edit_bank: EditBank,
    stages: Sequence[Stage],
    *,
    batch: int,
    edits: int,
    learning_rate: float,
    seed: int,
    report: Report,
    finished: int = 0,
    at_stage_end: Callable[[Stage], None] | None = None,
) -> None:
    """Train in place, starting with stage ``finished``. A step has ``batch`` texts and pictures, ``edits`` among these.

    One learning-rate schedule covers all stages; a resumed run starts with new optimizer moments.
    """
    rng = np.random.default_rng([seed, finished])
    teacher, core = Teacher(tokenizer, ids), LuminaDimoo(model, ids)
    optimizers = _optimizers(model, learning_rate)
    total = sum(stage.steps for stage in stages)
    done = sum(stage.steps for stage in stages[:finished])
    schedules = [one_cycle(one, total, warmup=0.03, done=done) for one in optimizers]
    for stage in stages[finished:]:
        rows = bank.with_things(stage.things)
        for _ in range(stage.steps):
            seen, drawn = rng.choice(rows, size=batch), rng.choice(rows, size=batch - edits)
            edited = rng.choice(len(edit_bank.edits), size=edits)
            texts = [teacher.text_example(rng, bank.scenes[i], bank.codes[i], stage) for i in seen]
            pictures = [
                *(teacher.drawing_example(rng, bank.requests[i], bank.codes[i]) for i in drawn),
                *(
                    teacher.edit_example(rng, edit_bank.edits[i], edit_bank.sources[i], edit_bank.targets[i])
                    for i in edited
                ),
            ]
            # One context per step: autocast caches cast weights until its context ends.
            with low_precision():
                answering, padding, drawing = losses(core, texts, pictures)
            model.zero_grad()
            (answering + _PADDING * padding + drawing).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            figures = {"answering": answering, "padding": padding, "drawing": drawing}
            report(stage.name, done, total, {name: loss.item() for name, loss in figures.items()})
            done += 1
        if at_stage_end is not None:
            at_stage_end(stage)
