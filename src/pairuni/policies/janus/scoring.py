"""Log-probs of given trajectories under Janus: both tasks in one packed forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pairuni.policies.decoding.sampling import Head, scoring_temperature
from pairuni.policies.janus.inputs import JanusInputs, digest
from pairuni.policies.llama import LlamaLayers
from pairuni.policies.policy import ImageTrajectory, TextTrajectory, Trajectory
from pairuni.policies.replay import Continuation, linear_log_probs, packed_states

Key = tuple[str, bytes, tuple[int, ...]]
Place = tuple[Key, int]
"""A prompt (its kind, image and ids) and a sequence's number among those that continue it."""


@dataclass
class _Sequences:
    """Sequences by the prompt that they share, in the order in which they came.

    continuations: for each prompt the numbers of its sequences in ``words`` or ``drawn``, lists of ids
    [T - 1]; a guided image and its twin continue two prompts with the same drawn tokens.
    """

    continuations: dict[Key, list[int]] = field(default_factory=dict)
    words: list[Tensor] = field(default_factory=list)
    drawn: list[Tensor] = field(default_factory=list)

    def add(self, kind: str, picture: bytes, prompt_ids: Tensor, number: int) -> Place:
        """Let the sequence ``number`` continue a prompt."""
        key = (kind, picture, tuple(prompt_ids.tolist()))
        numbers = self.continuations.setdefault(key, [])
        numbers.append(number)
        return key, len(numbers) - 1

    def embed(self, inputs: JanusInputs, pictures: Mapping[bytes, Tensor]) -> list[Continuation]:
        """One lookup for all words and one for all drawn tokens."""
        prompts = [torch.tensor(ids) for _, _, ids in self.continuations]
        shown = [pictures.get(picture) for _, picture, _ in self.continuations]
        rows = inputs.texts([*prompts, *self.words], [*shown, *(None for _ in self.words)])
        words = rows[len(prompts) :]
        drawn: Sequence[Tensor] = []
        if self.drawn:
            lengths = [len(row) for row in self.drawn]
            drawn = inputs.drawn(torch.cat(self.drawn).to(inputs.device)).split(lengths)
        return [
            Continuation(
                prompt=prompt, continuations=[(words if key[0] == "text" else drawn)[n] for n in numbers]
            )
            for prompt, (key, numbers) in zip(rows, self.continuations.items(), strict=False)
        ]


class JanusScorer:
    """Teacher forcing of Janus; each trajectory with its own temperature, guidance and branch."""

    def __init__(self, inputs: JanusInputs, layers: LlamaLayers, *, text: Head, image: Head) -> None:
        self.inputs, self.layers, self.text, self.image = inputs, layers, text, image

    def log_probs(self, trajectories: Sequence[Trajectory], *, checkpointing: bool) -> list[Tensor]:
        """float32 log-probs [T_i] of each trajectory, in their order, with gradient."""
        sequences = _Sequences()
        pictures = {
            id(one.pixel_values): one.pixel_values for one in trajectories if isinstance(one, TextTrajectory)
        }
        digests = {number: digest(pixels) for number, pixels in pictures.items()}
        own: list[Place] = []
        twins: dict[int, Place] = {}
        for index, one in enumerate(trajectories):
            if isinstance(one, TextTrajectory):
                sequences.words.append(one.tokens[:-1])
                number = len(sequences.words) - 1
                own.append(sequences.add("text", digests[id(one.pixel_values)], one.prompt_ids, number))
                continue
            sequences.drawn.append(one.tokens[:-1])
            number = len(sequences.drawn) - 1
            own.append(sequences.add("drawn", b"", one.prompt_ids, number))
            if one.branch == "guided" and one.guidance != 1.0:
                masked = self.inputs.prompts.unconditional(one.prompt_ids)
                twins[index] = sequences.add("drawn", b"", masked, number)
        distinct = {digests[number]: one for number, one in pictures.items() if one is not None}
        # equal images pass the tower once
        embedded = dict(zip(distinct, self.inputs.images(list(distinct.values())), strict=True))
        groups = sequences.embed(self.inputs, embedded)
        found_states = packed_states(self.layers, groups, checkpointing=checkpointing)
        states = {
            (key, number): rows
            for key, group in zip(sequences.continuations, found_states, strict=True)
            for number, rows in enumerate(group)
        }
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
