"""Stage 3: the language model learns both tasks on the bank of images, with a curriculum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.digits.language import Request, sentence
from pairuni.digits.scenes import Scene
from tools.pretraining.autocast import low_precision
from tools.pretraining.lessons import Stage, exercise
from tools.pretraining.schedule import Report, one_cycle
from tools.tiny_model.bank import Bank
from tools.tiny_model.model import BOI, EOI, IMAGE, IMAGE_TOKENS

UNCONDITIONAL = 0.12
"""Share of image examples whose prompt is blanked, to train the unconditional branch of guidance."""


class Teacher:
    """Converts scenes to token sequences in the model's conversation format."""

    def __init__(self, processor: JanusProcessor) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.boi = self.tokenizer.convert_tokens_to_ids(BOI)
        self.image = self.tokenizer.convert_tokens_to_ids(IMAGE)

    def text_example(self, rng: np.random.Generator, scene: Scene, stage: Stage) -> tuple[list[int], int]:
        """Token ids of a question with its answer, and the position where the answer begins."""
        question, answer = exercise(rng, scene, stage)
        prompt = self._prompt([{"type": "image"}, {"type": "text", "text": question}])
        prompt = prompt.replace(IMAGE, BOI + IMAGE * IMAGE_TOKENS + EOI)
        ids = self.tokenizer(prompt)["input_ids"]
        reply = self.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
        return [*ids, *reply, self.tokenizer.eos_token_id], len(ids)

    def image_prompt(self, rng: np.random.Generator, request: Request) -> list[int]:
        """Token ids of a prompt up to begin-of-image; sometimes the unconditional prompt."""
        ids = self.tokenizer(self._prompt([{"type": "text", "text": sentence(request)}]) + BOI)["input_ids"]
        if rng.random() < UNCONDITIONAL:
            return [ids[0], *[self.tokenizer.pad_token_id] * (len(ids) - 2), ids[-1]]
        return ids

    def _prompt(self, content: list[dict[str, str]]) -> str:
        conversation = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)


def text_loss(
    model: JanusForConditionalGeneration,
    examples: Sequence[tuple[list[int], int]],
    features: Tensor,
    image: int,
) -> Tensor:
    """Cross-entropy of the answers given the tower's features [N, patches, width]."""
    # Padding on the right of a causal model changes nothing to its left, so no mask is needed.
    longest = max(len(ids) for ids, _ in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    targets = torch.full((len(examples), longest), -100)
    for row, (tokens, answer) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, answer - 1 : len(tokens) - 1] = torch.tensor(tokens[answer:])
    embeds = model.get_input_embeddings()(ids)
    seen = model.model.aligner(features).to(embeds.dtype)
    embeds = embeds.masked_scatter((ids == image).unsqueeze(-1), seen)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    answered = targets != -100
    return F.cross_entropy(model.lm_head(hidden[answered]).float(), targets[answered])


def image_loss(model: JanusForConditionalGeneration, prompts: Sequence[list[int]], codes: Tensor) -> Tensor:
    """Cross-entropy of the codes [N, T] given their prompts."""
    count = codes.shape[1]
    longest = max(len(ids) for ids in prompts)
    ids = torch.zeros(len(prompts), longest + count - 1, dtype=torch.long)
    is_code = torch.zeros_like(ids, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
        is_code[row, len(prompt) : len(prompt) + count - 1] = True
    embeds = model.get_input_embeddings()(ids)
    written = model.prepare_embeddings_for_image_generation(codes[:, :-1]).to(embeds.dtype)
    embeds = embeds.masked_scatter(is_code.unsqueeze(-1), written)
    hidden = model.model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts])
    positions = starts[:, None] + torch.arange(count)
    hidden = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))
    return F.cross_entropy(model.model.generation_head(hidden).float().flatten(0, 1), codes.flatten())


def train_language_model(
    model: JanusForConditionalGeneration,
    processor: JanusProcessor,
    bank: Bank,
    stages: Sequence[Stage],
    *,
    batch: int,
    learning_rate: float,
    seed: int,
    report: Report,
    finished: int = 0,
    at_stage_end: Callable[[Stage], None] | None = None,
) -> None:
    """Train everything but the tower and the image tokenizer, in place, starting with stage ``finished``.

    One learning-rate schedule covers all stages; a resumed run starts with new optimizer moments.
    """
    rng = np.random.default_rng([seed, finished])
    teacher = Teacher(processor)
    model.requires_grad_(True)
    model.model.vision_model.requires_grad_(False)
    model.model.vqmodel.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    total = sum(stage.steps for stage in stages)
    done = sum(stage.steps for stage in stages[:finished])
    schedule = one_cycle(optimizer, total, warmup=0.03, done=done)
    for stage in stages[finished:]:
        rows = bank.with_things(stage.things)
        for _ in range(stage.steps):
            seen, generated = rng.choice(rows, size=(2, batch))
            examples = [teacher.text_example(rng, bank.scenes[i], stage) for i in seen]
            prompts = [teacher.image_prompt(rng, bank.requests[i]) for i in generated]
            # One context per step: autocast caches cast weights until its context ends.
            with low_precision():
                answering = text_loss(model, examples, bank.features[seen], teacher.image)
                drawing = image_loss(model, prompts, bank.codes[generated])
            optimizer.zero_grad()
            (answering + drawing).backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            report(stage.name, done, total, {"answering": answering.item(), "drawing": drawing.item()})
            done += 1
        if at_stage_end is not None:
            at_stage_end(stage)
