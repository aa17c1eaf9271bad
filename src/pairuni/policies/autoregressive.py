"""Autoregressive policies: trajectories are tokens in sampling order, each one a decision given those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pairuni.config import RolloutSettings
from pairuni.policies import costs
from pairuni.policies.costs import ReplayCost, RolloutCost
from pairuni.policies.decoding.truncation import packed_size
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.trajectories import ImageTrajectory, LogProbBranch, TextTrajectory


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTokens(TextTrajectory):
    """One sampled answer o to (images, question).

    tokens: [T] sampled ids; the last of a finished answer is the end-of-sequence id that was sampled.
    log_probs: [T] float32 log pi(o_t | q, o_<t) at sampling, of the temperature-scaled softmax over the kept tokens.
    prompt_ids: [P] the unpadded prompt, image placeholders expanded.
    pixel_values: [C, H, W] of each image of the question, preprocessed, in order; empty for text-only questions.
    kept: [T, ceil(V / 8)] uint8, for each token the ids that it was sampled from (``decoding.truncation.pack``); None
    is all.
    """

    tokens: Tensor
    prompt_ids: Tensor
    pixel_values: tuple[Tensor, ...]
    temperature: float
    kept: Tensor | None = None

    @property
    def sampled_tokens(self) -> int:
        return len(self.tokens)

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt_ids)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTokens(ImageTrajectory):
    """One sampled image, as discrete image tokens.

    tokens: [T] sampled codebook ids, in sampling order.
    log_probs: [T] float32, of the branch named by ``branch``.
    prompt_ids: [P] the unpadded conditional prompt, begin-of-image included.
    guidance: g of the logits u + g (c - u); 1 means no unconditional branch.
    branch: "guided" scores the guided logits, which were sampled from; "conditional" scores the conditional logits.
    kept: see ``TextTokens``; with either branch the tokens that guided sampling kept.
    """

    tokens: Tensor
    prompt_ids: Tensor
    temperature: float
    guidance: float
    branch: LogProbBranch
    kept: Tensor | None = None

    @property
    def sampled_tokens(self) -> int:
        return len(self.tokens)

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt_ids)

    @property
    def scores_guidance(self) -> bool:
        """Whether its log-probs need the unconditional branch."""
        return self.branch == "guided" and self.guidance != 1.0


TokenTrajectory = TextTokens | ImageTokens


def kept_of(trajectories: Sequence[TokenTrajectory], vocabulary: int, device: torch.device) -> Tensor | None:
    """[sum of T, ceil(V / 8)] the kept tokens of trajectories of one head; None if all keep all V tokens."""
    if all(one.kept is None for one in trajectories):
        return None
    every = torch.full((1, packed_size(vocabulary)), 255, dtype=torch.uint8)
    rows = [every.expand(len(one.tokens), -1) if one.kept is None else one.kept for one in trajectories]
    return torch.cat(rows).to(device)


class AutoregressivePolicy(UnifiedPolicy[TextTokens, ImageTokens]):
    """A policy that samples token by token. Its trajectories are ``TextTokens`` and ``ImageTokens``."""

    image_tokens: int
    """Tokens of a generated image."""

    @property
    def question_image_tokens(self) -> int:
        """Tokens of an image in a question, at most."""
        return self.image_tokens

    def replay_cost(self, trajectories: Sequence[TokenTrajectory]) -> ReplayCost:
        """A shared prompt counts once, a guided image twice; the last token of a sequence is not read."""
        prompts: dict[tuple[object, ...], int] = {}
        total = repeated = 0
        for one in trajectories:
            key: tuple[object, ...] = (tuple(one.prompt_ids.tolist()),)
            if isinstance(one, TextTokens):
                key = (*key, *map(id, one.pixel_values))
            read = self.read_tokens(one)
            prompts[key] = sum(prompt for prompt, _ in read)
            repeated += prompts[key]
            total += sum(own for _, own in read)
        tokens = total + sum(prompts.values())
        return ReplayCost(tokens, tokens + repeated)

    def read_tokens(self, trajectory: TokenTrajectory) -> list[tuple[int, int]]:
        """Of each branch that its log-probs need: tokens of the prompt, and those that are read after it."""
        guided = isinstance(trajectory, ImageTokens) and trajectory.scores_guidance
        return [(len(trajectory.prompt_ids), len(trajectory.tokens) - 1)] * (2 if guided else 1)

    def text_cost(self, rollout: RolloutSettings, images: int = 1) -> RolloutCost:
        answers = rollout.understanding * rollout.max_new_tokens
        question = images * self.question_image_tokens + costs.PROMPT_TOKENS
        return RolloutCost(
            rows=rollout.understanding,
            steps=rollout.max_new_tokens,
            sampled=answers,
            cached=question + answers,
            replayed=question + answers,
            largest=question + rollout.max_new_tokens,
            keys=question + answers + rollout.understanding * question,
        )

    def image_cost(self, rollout: RolloutSettings) -> RolloutCost:
        images = rollout.generation * self.image_tokens
        decoded = 2 if rollout.guidance != 1.0 else 1  # branches
        scored = decoded if rollout.branch == "guided" else 1
        prompt = costs.PROMPT_TOKENS
        return RolloutCost(
            rows=decoded * rollout.generation,
            steps=self.image_tokens,
            sampled=images,
            cached=decoded * (prompt + images),
            replayed=scored * (prompt + images),
            largest=scored * (prompt + self.image_tokens),
            keys=scored * (prompt + images + rollout.generation * prompt),
        )
