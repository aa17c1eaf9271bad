"""Sampling from Janus: what the decode loop is given, and the trajectories made from its rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pairuni.policies.autoregressive import ImageTokens, TextTokens
from pairuni.policies.decoding.requests import Prompt, Request, Rollout
from pairuni.policies.decoding.sampling import SamplingParams
from pairuni.policies.janus.inputs import digest
from pairuni.policies.policy import ImageSampling, TextSampling

if TYPE_CHECKING:
    from pairuni.policies.janus.policy import JanusPolicy

TEXT_STREAM, IMAGE_STREAM = 0, 1


class TextRollouts:
    """Answers: ``request`` for the decode loop, ``trajectories`` from its result.

    Raises ValueError for prompts that cannot be made or do not fit the context.
    """

    def __init__(self, policy: JanusPolicy, sampling: TextSampling) -> None:
        images, questions = list(sampling.images), sampling.questions
        if len(images) != len(questions):
            raise ValueError(f"{len(images)} images came with {len(questions)} questions; give one for each.")
        self.policy, self.sampling = policy, sampling
        self.ids = [
            policy.prompts.understanding(question, with_image=image is not None)
            for image, question in zip(images, questions, strict=True)
        ]
        policy.check_context(self.ids, sampling.max_new_tokens)
        shared = {id(image): policy.pixel_values([image])[0] for image in images if image is not None}
        self.pixels = [None if image is None else shared[id(image)] for image in images]
        self.request = Request(
            head=policy.inference.text_head,
            embed=policy.inference.inputs.embed_text,
            lengths=[len(row) for row in self.ids],
            prompts=self._embed,
            sampling=SamplingParams(
                rollouts=sampling.rollouts,
                steps=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                stop_ids=policy.stop_ids,
            ),
            seed=sampling.seed,
            first_prompt=sampling.first_prompt,
            stream=TEXT_STREAM,
        )

    def _embed(self, chosen: Sequence[int]) -> list[Prompt]:
        """Equal prompts share their embeddings, and equal images pass the vision tower once."""
        inputs = self.policy.inference.inputs
        digests = [digest(self.pixels[index]) for index in chosen]
        pixels = {key: self.pixels[index] for key, index in zip(digests, chosen, strict=True)}
        distinct = {key: one for key, one in pixels.items() if one is not None}
        images = dict(zip(distinct, inputs.embed_images(list(distinct.values())), strict=True))
        made: dict[tuple[bytes, str], Prompt] = {}
        prompts = []
        for key, index in zip(digests, chosen, strict=True):
            shown = (key, self.sampling.questions[index])
            if shown not in made:
                made[shown] = Prompt(conditional=inputs.embed_prompt(self.ids[index], images.get(key)))
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
            text=self.policy.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
        )


class ImageRollouts:
    """Images, with the same two parts."""

    def __init__(self, policy: JanusPolicy, sampling: ImageSampling) -> None:
        self.policy, self.sampling = policy, sampling
        self.ids = [policy.prompts.generation(prompt) for prompt in sampling.prompts]
        policy.check_context(self.ids, policy.image_tokens)
        self.request = Request(
            head=policy.inference.image_head,
            embed=policy.inference.inputs.embed_codes,
            lengths=[len(row) for row in self.ids],
            prompts=self._embed,
            sampling=SamplingParams(
                rollouts=sampling.rollouts,
                steps=policy.image_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                guidance=sampling.guidance,
                branch=sampling.branch,
            ),
            seed=sampling.seed,
            first_prompt=sampling.first_prompt,
            stream=IMAGE_STREAM,
        )

    def _embed(self, chosen: Sequence[int]) -> list[Prompt]:
        """Equal prompts share their embeddings, and so do equal unconditional prompts."""
        inputs = self.policy.inference.inputs
        made: dict[tuple[int, ...], Tensor] = {}

        def embedded(ids: Tensor) -> Tensor:
            key = tuple(ids.tolist())
            if key not in made:
                made[key] = inputs.embed_prompt(ids)
            return made[key]

        return [
            Prompt(
                conditional=embedded(ids),
                unconditional=embedded(inputs.prompts.unconditional(ids))
                if self.request.sampling.guided
                else None,
            )
            for ids in (self.ids[index] for index in chosen)
        ]

    def trajectories(self, groups: Sequence[Sequence[Rollout]]) -> list[list[ImageTokens]]:
        return [
            [
                ImageTokens(
                    tokens=rollout.tokens,
                    log_probs=rollout.log_probs,
                    prompt_ids=self.ids[index],
                    temperature=float(self.sampling.temperature),
                    guidance=float(self.sampling.guidance),
                    branch=self.sampling.branch,
                    kept=rollout.kept,
                )
                for rollout in group
            ]
            for index, group in enumerate(groups)
        ]
