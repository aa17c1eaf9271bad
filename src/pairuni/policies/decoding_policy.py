"""Policies that sample with the decode loop: what Janus and Emu3 share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pairuni.policies.autoregressive import AutoregressivePolicy, ImageTokens, TextTokens, TokenTrajectory
from pairuni.policies.decoding.loop import DecodeLoop
from pairuni.policies.decoding.requests import Request
from pairuni.policies.llama_policy import LlamaPolicy
from pairuni.policies.requests import ImageSampling, QuestionImages, ScoredAnswer, TextSampling
from pairuni.policies.rollouts import ImageRollouts, TextRollouts
from pairuni.policies.scoring import TokenScorer
from pairuni.policies.token_parts import TokenParts

Parts = TypeVar("Parts", bound=TokenParts)

_TOKENS_PER_BYTE = 4
"""Never exceeded: a byte is at most one token, and more only where a tokenizer's normaliser spells it out."""


class DecodingPolicy(LlamaPolicy[TextTokens, ImageTokens, Parts], AutoregressivePolicy, Generic[Parts]):
    """An autoregressive policy around a Llama, whose answers and images decode in the same steps.

    processor: has the ``tokenizer`` of questions and answers.
    """

    processor: Any
    truncates = True

    def __init__(self, model: Any, loop: DecodeLoop | None = None) -> None:
        super().__init__(model)
        self.loop = loop or DecodeLoop(self.inference.layers)

    @abstractmethod
    def _text_rollouts(self, request: TextSampling) -> TextRollouts:
        """Raises ValueError for questions that cannot be asked; their length is checked by the caller."""

    @abstractmethod
    def _image_rollouts(self, request: ImageSampling) -> ImageRollouts:
        """Likewise for generation prompts."""

    def _use_for_decoding(self, parts: Parts) -> None:
        super()._use_for_decoding(parts)
        self.loop = self.loop.with_layers(parts.layers)

    def sample_text(self, request: TextSampling) -> list[list[TextTokens]]:
        self._check_current()
        texts = self._texts(request)
        return texts.trajectories(self.loop.run([texts.request])[0])

    def sample_images(self, request: ImageSampling) -> list[list[ImageTokens]]:
        self._check_current()
        images = self._images(request)
        return images.trajectories(self.loop.run([images.request])[0])

    def sample(
        self, texts: TextSampling, images: ImageSampling
    ) -> tuple[list[list[TextTokens]], list[list[ImageTokens]]]:
        self._check_current()
        text, image = self._texts(texts), self._images(images)
        text_rollouts, image_rollouts = self.loop.run([text.request, image.request])
        return text.trajectories(text_rollouts), image.trajectories(image_rollouts)

    def _texts(self, request: TextSampling) -> TextRollouts:
        self.check_shown(request)
        texts = self._text_rollouts(request)
        self._check_context(texts.request)
        return texts

    def _images(self, request: ImageSampling) -> ImageRollouts:
        images = self._image_rollouts(request)
        self._check_context(images.request)
        return images

    def answer(self, images: QuestionImages, question: str, *, max_new_tokens: int | None = None) -> str:
        """The greedy answer to one question; by default up to 512 tokens, or fewer in a shorter context."""
        if max_new_tokens is None:
            shortest = TextSampling(images=[images], questions=[question], max_new_tokens=1)
            max_new_tokens = min(512, self.context - self._texts(shortest).request.longest)
        return super().answer(images, question, max_new_tokens=max_new_tokens)

    @property
    def context(self) -> int:
        """Positions of the language model."""
        config: Any = self.module.config
        return int(config.text_config.max_position_embeddings)

    def _check_context(self, request: Request) -> None:
        """Raise ValueError when a prompt and its new tokens do not fit the model's context."""
        steps = request.sampling.steps
        if request.longest + steps > self.context:
            raise ValueError(
                f"The longest prompt and {steps} new tokens need {request.longest + steps} positions, but the model "
                f"has {self.context}; shorten the prompt or lower the number of new tokens."
            )

    def _faults(
        self, texts: Sequence[str], encode: Callable[[str], Tensor], steps: int, images: int = 1
    ) -> dict[str, str]:
        """The faults of texts, those too long for the context with ``steps`` new tokens among them.

        Only texts that may be too long are tokenized. images: how many a question shows. Raises ValueError if the new
        tokens leave no room for any text.
        """
        room = self.context - steps - len(encode("a"))
        if room < 0 and images <= 1:
            raise ValueError(
                f"{steps:,} new tokens and the shortest prompt do not fit in the {self.context:,} positions of "
                f"{self.name}; lower the number of new tokens, which is rollout.max_new_tokens in a run"
            )
        faults = {}
        for text in texts:
            fault = self.question_fault(text)
            if fault is None and _TOKENS_PER_BYTE * len(text.encode(errors="replace")) > room:
                needed = len(encode(text)) + steps
                if needed > self.context:
                    several = images > 1
                    fault = (
                        f"needs {needed:,} positions with {f'its {images} images and ' if several else ''}"
                        f"{steps:,} new tokens, but the model has {self.context:,}; "
                        f"{'show fewer images, ' if several else ''}shorten it or lower the number of new tokens"
                    )
            if fault is not None:
                faults[text] = fault
        return faults

    def _score(
        self, parts: Parts, trajectories: Sequence[TokenTrajectory], *, checkpointing: bool
    ) -> list[Tensor]:
        return TokenScorer(parts).log_probs(trajectories, checkpointing=checkpointing)

    @torch.no_grad()
    def score_text(
        self, images: Sequence[QuestionImages], questions: Sequence[str], answers: Sequence[str]
    ) -> list[ScoredAnswer]:
        """As ``UnifiedPolicy.score_text``. Raises ValueError for an answer without tokens."""
        tokens = [self._answer_ids(*one) for one in zip(questions, answers, strict=True)]
        if not tokens:
            return []
        longest = max(len(row) for row in tokens)
        texts = self._texts(
            TextSampling(images=images, questions=questions, temperature=0.0, max_new_tokens=longest)
        )
        given = [
            TextTokens(
                tokens=row,
                log_probs=torch.zeros(len(row)),
                prompt_ids=ids,
                pixel_values=pixels,
                temperature=1.0,
                finished=False,
                text=answer,
            )
            for row, ids, pixels, answer in zip(tokens, texts.ids, texts.pixels, answers, strict=True)
        ]
        self._check_current()
        rows = self._score(self.inference, given, checkpointing=False)
        greedy = texts.trajectories(self.loop.run([texts.request])[0])
        return [
            ScoredAnswer(
                log_probs=row.float().cpu(),
                greedy=torch.equal(said.tokens[: len(one.tokens)], one.tokens),
            )
            for one, row, (said,) in zip(given, rows, greedy, strict=True)
        ]

    def _answer_ids(self, question: str, answer: str) -> Tensor:
        ids = self.processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError(f"An answer to {question[:80]!r} is empty; give at least one token to score.")
        return torch.tensor(ids)
