"""Sampling of tokens: what the decode loop is given, and the trajectories made from its rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pairuni.policies.autoregressive import ImageTokens, TextTokens
from pairuni.policies.decoding.requests import Prompt, Request, Rollout
from pairuni.policies.decoding.sampling import SamplingParams
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.token_parts import TokenParts, digest

TEXT_STREAM, IMAGE_STREAM = 0, 1
"""Of the noise of answers and of images."""


class TextRollouts:
    """Answers: ``request`` for the decode loop, ``trajectories`` from its result.

    ids: [P] of each question; pixels: its preprocessed images, unless the ids hold them. tokenizer: decodes the
    answers.
    """

    def __init__(
        self,
        parts: TokenParts,
        sampling: TextSampling,
        ids: Sequence[Tensor],
        pixels: Sequence[tuple[Tensor, ...]],
        *,
        stop_ids: tuple[int, ...],
        tokenizer: Any,
    ) -> None:
        self.parts, self.sampling, self.tokenizer = parts, sampling, tokenizer
        self.ids, self.pixels = ids, pixels
        self.request = Request(
            head=parts.text_head,
            embed=parts.inputs.embed_text,
            lengths=[len(row) for row in ids],
            prompts=self._embed,
            sampling=SamplingParams(
                rollouts=sampling.rollouts,
                steps=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                stop_ids=stop_ids,
            ),
            seed=sampling.seed,
            first_prompt=sampling.first_prompt,
            stream=TEXT_STREAM,
        )

    def _embed(self, chosen: Sequence[int]) -> list[Prompt]:
        """Equal prompts share their embeddings, and equal images pass the vision tower once."""
        inputs = self.parts.inputs
        digests = {id(one): digest(one) for index in chosen for one in self.pixels[index]}
        distinct = {digests[id(one)]: one for index in chosen for one in self.pixels[index]}
        images = dict(zip(distinct, inputs.embed_images(list(distinct.values())), strict=True))
        made: dict[tuple[tuple[bytes, ...], tuple[int, ...]], Prompt] = {}
        prompts = []
        for index in chosen:
            keys = tuple(digests[id(one)] for one in self.pixels[index])
            shown = (keys, tuple(self.ids[index].tolist()))
            if shown not in made:
                embedded = inputs.embed_prompt(self.ids[index], [images[key] for key in keys])
                made[shown] = Prompt(conditional=embedded)
            prompts.append(made[shown])
        return prompts

    def trajectories(self, groups: Sequence[Sequence[Rollout]]) -> list[list[TextTokens]]:
        return [[self._trajectory(index, one) for one in group] for index, group in enumerate(groups)]

    def _trajectory(self, index: int, rollout: Rollout) -> TextTokens:
        # the stop token is not part of the text, even where it is an ordinary token
        tokens = rollout.tokens[:-1] if rollout.finished else rollout.tokens
        return TextTokens(
            tokens=rollout.tokens,
            log_probs=rollout.log_probs,
            prompt_ids=self.ids[index],
            pixel_values=self.pixels[index],
            temperature=float(self.sampling.temperature),
            kept=rollout.kept,
            finished=rollout.finished,
            text=self.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
        )


class ImageRollouts:
    """Images, with the same two parts.

    ids: [P] of each generation prompt. steps: tokens of an image. forced: see ``SamplingParams``; trajectories leave
    these tokens out.
    """

    def __init__(
        self,
        parts: TokenParts,
        sampling: ImageSampling,
        ids: Sequence[Tensor],
        *,
        steps: int,
        forced: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.parts, self.sampling, self.ids = parts, sampling, ids
        params = SamplingParams(
            rollouts=sampling.rollouts,
            steps=steps,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            guidance=sampling.guidance,
            branch=sampling.branch,
            forced=tuple(forced),
        )
        self.unconditional = [parts.inputs.unconditional(row) for row in ids] if params.guided else []
        self.request = Request(
            head=parts.image_head,
            embed=parts.inputs.embed_codes,
            lengths=[len(row) for row in ids],
            unconditional_lengths=[len(row) for row in self.unconditional],
            prompts=self._embed,
            sampling=params,
            seed=sampling.seed,
            first_prompt=sampling.first_prompt,
            stream=IMAGE_STREAM,
        )
        at = {step for step, _ in forced}
        self._decided = torch.tensor([step for step in range(steps) if step not in at])

    def _embed(self, chosen: Sequence[int]) -> list[Prompt]:
        """Equal prompts share their embeddings, and so do equal unconditional prompts."""
        made: dict[tuple[int, ...], Tensor] = {}

        def embedded(ids: Tensor) -> Tensor:
            key = tuple(ids.tolist())
            if key not in made:
                made[key] = self.parts.inputs.embed_prompt(ids)
            return made[key]

        return [
            Prompt(
                conditional=embedded(self.ids[index]),
                unconditional=embedded(self.unconditional[index]) if self.unconditional else None,
            )
            for index in chosen
        ]

    def trajectories(self, groups: Sequence[Sequence[Rollout]]) -> list[list[ImageTokens]]:
        return [
            [
                ImageTokens(
                    tokens=rollout.tokens[self._decided],
                    log_probs=rollout.log_probs[self._decided],
                    prompt_ids=self.ids[index],
                    temperature=float(self.sampling.temperature),
                    guidance=float(self.sampling.guidance),
                    branch=self.sampling.branch,
                    kept=None if rollout.kept is None else rollout.kept[self._decided],
                )
                for rollout in group
            ]
            for index, group in enumerate(groups)
        ]
