"""Log-probs of given trajectories under Janus: both tasks in one packed forward."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration

from pairuni.policies.janus.inputs import JanusInputs, digest
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.policy import ImageTrajectory, TextTrajectory, Trajectory
from pairuni.policies.replay import Continuation, chunk_rows, in_chunks, packed_states, token_log_probs
from pairuni.policies.sampling import guide, scoring_temperature


@dataclass
class _Groups:
    """Sequences by the prompt that they share, in the order in which they came."""

    prompts: dict[Hashable, Callable[[], Tensor]] = field(default_factory=dict)
    members: dict[Hashable, list[tuple[Tensor, Callable[[Tensor], Tensor]]]] = field(default_factory=dict)

    def add(
        self,
        key: Hashable,
        prompt: Callable[[], Tensor],
        tokens: Tensor,
        embed: Callable[[Tensor], Tensor],
    ) -> tuple[Hashable, int]:
        """The place of a sequence: its prompt's key and its number among those that share it."""
        self.prompts.setdefault(key, prompt)
        rows = self.members.setdefault(key, [])
        rows.append((tokens, embed))
        return key, len(rows) - 1

    def states(self, layers: LlamaLayers, *, checkpointing: bool) -> dict[Hashable, list[Tensor]]:
        """States [T, H] of every sequence, by place."""
        groups = [
            Continuation(
                prompt=self.prompts[key](), continuations=[embed(tokens[:-1]) for tokens, embed in rows]
            )
            for key, rows in self.members.items()
        ]
        found = packed_states(layers, groups, checkpointing=checkpointing)
        return dict(zip(self.members, found, strict=True))


class JanusScorer:
    """Teacher forcing of Janus; each trajectory with its own temperature, guidance and branch."""

    def __init__(
        self, model: JanusForConditionalGeneration, inputs: JanusInputs, layers: LlamaLayers
    ) -> None:
        self.model, self.inputs, self.layers = model, inputs, layers

    def log_probs(self, trajectories: Sequence[Trajectory], *, checkpointing: bool) -> list[Tensor]:
        """float32 log-probs [T_i] of each trajectory, in their order, with gradient."""
        images = self._image_embeds(trajectories)
        groups = _Groups()
        own: list[tuple[Hashable, int]] = []
        twins: dict[int, tuple[Hashable, int]] = {}
        for place, one in enumerate(trajectories):
            tokens = one.tokens.to(self.inputs.device)
            if isinstance(one, TextTrajectory):
                own.append(self._add_text(groups, one, tokens, images))
            else:
                own.append(self._add_image(groups, one.prompt_ids, tokens))
                if one.branch == "guided" and one.guidance != 1.0:
                    masked = self.inputs.prompts.unconditional(one.prompt_ids)
                    twins[place] = self._add_image(groups, masked, tokens)
        states = groups.states(self.layers, checkpointing=checkpointing)
        found: dict[int, Tensor] = {}
        for chosen, head in (
            ([place for place, one in enumerate(trajectories) if isinstance(one, TextTrajectory)], "text"),
            (
                [
                    place
                    for place, one in enumerate(trajectories)
                    if isinstance(one, ImageTrajectory) and place not in twins
                ],
                "image",
            ),
            (list(twins), "guided"),
        ):
            if not chosen:
                continue
            rows = [states[key][index] for key, index in (own[place] for place in chosen)]
            paired = [
                states[key][index] for key, index in (twins[place] for place in chosen if place in twins)
            ]
            values = self._score([trajectories[place] for place in chosen], head, rows, paired)
            found.update(zip(chosen, values, strict=True))
        return [found[place] for place in range(len(trajectories))]

    def _add_text(
        self, groups: _Groups, one: TextTrajectory, tokens: Tensor, images: dict[bytes, Tensor]
    ) -> tuple[Hashable, int]:
        picture = digest(one.pixel_values)
        return groups.add(
            ("text", picture, tuple(one.prompt_ids.tolist())),
            lambda: self.inputs.prompt(one.prompt_ids, images.get(picture)),
            tokens,
            self.inputs.text,
        )

    def _add_image(self, groups: _Groups, prompt_ids: Tensor, tokens: Tensor) -> tuple[Hashable, int]:
        return groups.add(
            ("image", tuple(prompt_ids.tolist())),
            lambda: self.inputs.prompt(prompt_ids),
            tokens,
            self.inputs.drawn,
        )

    def _image_embeds(self, trajectories: Sequence[Trajectory]) -> dict[bytes, Tensor]:
        """Embeddings of the questions' pictures by digest; equal pictures pass the tower once."""
        distinct = {
            digest(one.pixel_values): one.pixel_values
            for one in trajectories
            if isinstance(one, TextTrajectory) and one.pixel_values is not None
        }
        return dict(zip(distinct, self.inputs.images(list(distinct.values())), strict=True))

    def _score(
        self, trajectories: Sequence[Trajectory], head: str, own: Sequence[Tensor], twins: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        tokens = torch.cat([one.tokens for one in trajectories]).to(self.inputs.device)
        temperature = self._spread(
            trajectories, [scoring_temperature(one.temperature) for one in trajectories]
        )
        counts = [len(one.tokens) for one in trajectories]
        project = self.model.lm_head if head == "text" else self.model.model.generation_head
        classes = self.model.config.text_config.vocab_size
        if head != "text":
            classes = self.model.config.vq_config.num_embeddings
        if head == "guided":
            guidance = self._spread(
                trajectories, [one.guidance for one in trajectories if isinstance(one, ImageTrajectory)]
            )

            def guided(states: Tensor, others: Tensor, ids: Tensor, t: Tensor, g: Tensor) -> Tensor:
                logits = guide(project(states).float(), project(others).float(), g.unsqueeze(1))
                return token_log_probs(logits, ids, t)

            rows = (torch.cat(list(own)), torch.cat(list(twins)), tokens, temperature, guidance)
            values = in_chunks(guided, rows, chunk_rows(classes, branches=2))
        else:

            def plain(states: Tensor, ids: Tensor, t: Tensor) -> Tensor:
                return token_log_probs(project(states), ids, t)

            values = in_chunks(plain, (torch.cat(list(own)), tokens, temperature), chunk_rows(classes))
        return values.split(counts)

    def _spread(self, trajectories: Sequence[Trajectory], numbers: Sequence[float]) -> Tensor:
        """One number a trajectory -> one a token, [sum of T] float32."""
        counts = torch.tensor([len(one.tokens) for one in trajectories])
        return torch.tensor(numbers, dtype=torch.float32).repeat_interleave(counts).to(self.inputs.device)
