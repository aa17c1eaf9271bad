"""Log-probs of given trajectories under Janus: both tasks in one packed forward."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from pairuni.policies.janus.inputs import JanusInputs, digest
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.policy import ImageTrajectory, TextTrajectory, Trajectory
from pairuni.policies.replay import Continuation, linear_log_probs, packed_states
from pairuni.policies.sampling import Head, scoring_temperature

Place = tuple[Hashable, int]
"""The key of the prompt that a sequence continues, and its number among those that share it."""


@dataclass
class _Sequences:
    """Sequences by the prompt that they share, in the order in which they came."""

    prompts: dict[Hashable, Tensor] = field(default_factory=dict)
    continuations: dict[Hashable, list[Tensor]] = field(default_factory=dict)

    def add(self, key: Hashable, prompt: Callable[[], Tensor], continuation: Tensor) -> Place:
        """``prompt`` makes its embeddings [P, H] where the key is new; continuation: embeddings [T - 1, H]."""
        if key not in self.prompts:
            self.prompts[key] = prompt()
        rows = self.continuations.setdefault(key, [])
        rows.append(continuation)
        return key, len(rows) - 1

    def states(self, layers: LlamaLayers, *, checkpointing: bool) -> dict[Place, Tensor]:
        """States [T, H] that predict each sequence's tokens."""
        groups = [
            Continuation(prompt=self.prompts[key], continuations=rows)
            for key, rows in self.continuations.items()
        ]
        found = packed_states(layers, groups, checkpointing=checkpointing)
        return {
            (key, number): states
            for key, group in zip(self.continuations, found, strict=True)
            for number, states in enumerate(group)
        }


class JanusScorer:
    """Teacher forcing of Janus; each trajectory with its own temperature, guidance and branch."""

    def __init__(self, inputs: JanusInputs, layers: LlamaLayers, *, text: Head, image: Head) -> None:
        self.inputs, self.layers, self.text, self.image = inputs, layers, text, image

    def log_probs(self, trajectories: Sequence[Trajectory], *, checkpointing: bool) -> list[Tensor]:
        """float32 log-probs [T_i] of each trajectory, in their order, with gradient."""
        embeds = self._image_embeds(trajectories)
        sequences = _Sequences()
        own: list[Place] = []
        twins: dict[int, Place] = {}
        for index, one in enumerate(trajectories):
            tokens = one.tokens[:-1].to(self.inputs.device)
            if isinstance(one, TextTrajectory):
                picture = digest(one.pixel_values)
                key = (picture, tuple(one.prompt_ids.tolist()))
                prompt = partial(self.inputs.prompt, one.prompt_ids, embeds.get(picture))
                own.append(sequences.add(key, prompt, self.inputs.text(tokens)))
                continue
            drawn = self.inputs.drawn(tokens)
            own.append(self._add_drawn(sequences, one.prompt_ids, drawn))
            if one.branch == "guided" and one.guidance != 1.0:
                masked = self.inputs.prompts.unconditional(one.prompt_ids)
                twins[index] = self._add_drawn(sequences, masked, drawn)
        states = sequences.states(self.layers, checkpointing=checkpointing)
        texts = [index for index, one in enumerate(trajectories) if isinstance(one, TextTrajectory)]
        images = [index for index, one in enumerate(trajectories) if isinstance(one, ImageTrajectory)]
        found: dict[int, Tensor] = {}
        if texts:
            features = self.text.features(torch.cat([states[own[index]] for index in texts]))
            found.update(self._scored(self.text, features, texts, trajectories))
        if images:
            features = self._drawn_features(trajectories, images, states, own, twins)
            found.update(self._scored(self.image, features, images, trajectories))
        return [found[index] for index in range(len(trajectories))]

    def _add_drawn(self, sequences: _Sequences, prompt_ids: Tensor, drawn: Tensor) -> Place:
        return sequences.add(
            ("drawn", tuple(prompt_ids.tolist())), partial(self.inputs.prompt, prompt_ids, None), drawn
        )

    def _image_embeds(self, trajectories: Sequence[Trajectory]) -> dict[bytes, Tensor]:
        """Embeddings of the questions' pictures by digest; equal pictures pass the tower once."""
        distinct = {
            digest(one.pixel_values): one.pixel_values
            for one in trajectories
            if isinstance(one, TextTrajectory) and one.pixel_values is not None
        }
        return dict(zip(distinct, self.inputs.images(list(distinct.values())), strict=True))

    def _drawn_features(
        self,
        trajectories: Sequence[Trajectory],
        images: Sequence[int],
        states: dict[Place, Tensor],
        own: Sequence[Place],
        twins: dict[int, Place],
    ) -> Tensor:
        """Features of the images' tokens, [sum of T, F], mixed with their twins' where guided."""
        rows = [states[own[index]] for index in images] + [states[place] for place in twins.values()]
        pieces = self.image.features(torch.cat(rows)).split([len(row) for row in rows])
        unconditional = dict(zip(twins, pieces[len(images) :], strict=True))
        mixed = []
        for index, conditional in zip(images, pieces, strict=False):
            one = trajectories[index]
            if index in unconditional:
                assert isinstance(one, ImageTrajectory)
                conditional = self.image.guided(conditional, unconditional[index], one.guidance)
            mixed.append(conditional)
        return torch.cat(mixed)

    def _scored(
        self, head: Head, features: Tensor, chosen: Sequence[int], trajectories: Sequence[Trajectory]
    ) -> dict[int, Tensor]:
        picked = [trajectories[index] for index in chosen]
        counts = [len(one.tokens) for one in picked]
        temperatures = torch.tensor([scoring_temperature(one.temperature) for one in picked])
        values = linear_log_probs(
            features,
            head.project,
            torch.cat([one.tokens for one in picked]).to(features.device),
            temperatures.repeat_interleave(torch.tensor(counts)).to(features.device),
        )
        return dict(zip(chosen, values.split(counts), strict=True))
