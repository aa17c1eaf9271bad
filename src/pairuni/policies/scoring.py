"""Log-probs of given token trajectories, both tasks in one packed forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pairuni.policies.autoregressive import ImageTokens, TextTokens, TokenTrajectory, kept_of
from pairuni.policies.decoding.sampling import Head, scoring_temperature
from pairuni.policies.replay import Continuation, linear_log_probs, packed_states
from pairuni.policies.token_parts import TokenInputs, TokenParts, digest

Modality = Literal["text", "image"]
Key = tuple[Modality, tuple[bytes, ...], tuple[int, ...]]
Place = tuple[Key, int]
"""A prompt (its modality, images and ids), and a sequence's number among those that continue it."""


@dataclass
class _Sequences:
    """Sequences by the prompt that they share, in order of arrival.

    text, codes: all tokens but the last, [S - 1], of the sequences. decided: for each of ``codes`` the positions of its
    decisions, or None where all of its tokens are decisions. continuations: for each prompt the numbers of its
    sequences in one of these lists; a guided image continues two prompts with the same codes.
    """

    continuations: dict[Key, list[int]] = field(default_factory=dict)
    text: list[Tensor] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)
    decided: list[Tensor | None] = field(default_factory=list)

    def add(self, modality: Modality, images: tuple[bytes, ...], prompt_ids: Tensor, number: int) -> Place:
        """Let the sequence ``number`` continue a prompt."""
        key = (modality, images, tuple(prompt_ids.tolist()))
        numbers = self.continuations.setdefault(key, [])
        numbers.append(number)
        return key, len(numbers) - 1

    def embed(self, inputs: TokenInputs, images: Mapping[bytes, Tensor]) -> list[Continuation]:
        """Embed with one lookup for all text and one for all codes."""
        prompts = [torch.tensor(ids) for _, _, ids in self.continuations]
        shown = [[images[one] for one in several] for _, several, _ in self.continuations]
        rows = inputs.embed_texts([*prompts, *self.text], [*shown, *([] for _ in self.text)])
        embedded: dict[Modality, Sequence[Tensor]] = {"text": rows[len(prompts) :], "image": []}
        if self.codes:
            codes = inputs.embed_codes(torch.cat(self.codes).to(inputs.device))
            embedded["image"] = codes.split([len(row) for row in self.codes])
        return [
            Continuation(prompt=prompt, continuations=[embedded[modality][number] for number in numbers])
            for prompt, ((modality, _, _), numbers) in zip(rows, self.continuations.items(), strict=False)
        ]

    def decisions(self, packed: Sequence[Sequence[Tensor]]) -> dict[Place, Tensor]:
        """Of the states [S, H] of all sequences by prompt, those that predict a decision, [T, H] by place."""
        found: dict[Place, Tensor] = {}
        for (key, numbers), group in zip(self.continuations.items(), packed, strict=True):
            for place, (number, rows) in enumerate(zip(numbers, group, strict=True)):
                decided = None if key[0] == "text" else self.decided[number]
                found[key, place] = rows if decided is None else rows[decided.to(rows.device)]
        return found


class TokenScorer:
    """Teacher forcing; each trajectory with its own temperature, guidance and branch."""

    def __init__(self, parts: TokenParts) -> None:
        self._parts = parts
        self.inputs, self.layers = parts.inputs, parts.layers
        self.text, self.image = parts.text_head, parts.image_head

    def log_probs(self, trajectories: Sequence[TokenTrajectory], *, checkpointing: bool) -> list[Tensor]:
        """float32 log-probs [T_i] of each trajectory, in their order, with gradient."""
        return self._parts.replay(lambda: self._log_probs(trajectories, checkpointing))

    def _log_probs(self, trajectories: Sequence[TokenTrajectory], checkpointing: bool) -> list[Tensor]:
        pixels = {
            id(values): values
            for one in trajectories
            if isinstance(one, TextTokens)
            for values in one.pixel_values
        }
        digests = {number: digest(values) for number, values in pixels.items()}
        sequences, places, unconditional = self._sequences(trajectories, digests)
        # equal images pass the tower once
        distinct = {digests[number]: values for number, values in pixels.items()}
        images = dict(zip(distinct, self.inputs.embed_images(list(distinct.values())), strict=True))
        packed = packed_states(self.layers, sequences.embed(self.inputs, images), checkpointing=checkpointing)
        states = sequences.decisions(packed)
        text = [index for index, one in enumerate(trajectories) if isinstance(one, TextTokens)]
        image = [index for index, one in enumerate(trajectories) if isinstance(one, ImageTokens)]
        found: dict[int, Tensor] = {}
        if text:
            features = self.text.features(torch.cat([states[places[index]] for index in text]))
            found.update(self._scored(self.text, features, text, trajectories))
        if image:
            features = self._image_features(trajectories, image, states, places, unconditional)
            found.update(self._scored(self.image, features, image, trajectories))
        return [found[index] for index in range(len(trajectories))]

    def _sequences(
        self, trajectories: Sequence[TokenTrajectory], digests: Mapping[int, bytes]
    ) -> tuple[_Sequences, list[Place], dict[int, Place]]:
        """All sequences, the place of each trajectory, and that of a guided image's unconditional sequence."""
        sequences = _Sequences()
        places: list[Place] = []
        unconditional: dict[int, Place] = {}
        for index, one in enumerate(trajectories):
            if isinstance(one, TextTokens):
                number = len(sequences.text)
                sequences.text.append(one.tokens[:-1])
                shown = tuple(digests[id(values)] for values in one.pixel_values)
                places.append(sequences.add("text", shown, one.prompt_ids, number))
                continue
            number = len(sequences.codes)
            tokens, decided = self.inputs.read(one)
            sequences.codes.append(tokens[:-1])
            sequences.decided.append(decided)
            places.append(sequences.add("image", (), one.prompt_ids, number))
            if one.scores_guidance:
                ids = self.inputs.unconditional(one.prompt_ids)
                unconditional[index] = sequences.add("image", (), ids, number)
        return sequences, places, unconditional

    def _image_features(
        self,
        trajectories: Sequence[TokenTrajectory],
        chosen: Sequence[int],
        states: Mapping[Place, Tensor],
        places: Sequence[Place],
        unconditional: Mapping[int, Place],
    ) -> Tensor:
        """Features of the chosen images' codes, [sum of T, F], with guidance where the branch is guided."""
        rows = [states[places[index]] for index in chosen]
        rows += [states[place] for place in unconditional.values()]
        pieces = self.image.features(torch.cat(rows)).split([len(row) for row in rows])
        others = dict(zip(unconditional, pieces[len(chosen) :], strict=True))
        guided = []
        for index, conditional in zip(chosen, pieces, strict=False):
            one = trajectories[index]
            if index in others:
                assert isinstance(one, ImageTokens)
                conditional = self.image.guided(conditional, others[index], one.guidance)
            guided.append(conditional)
        return torch.cat(guided)

    def _scored(
        self, head: Head, features: Tensor, chosen: Sequence[int], trajectories: Sequence[TokenTrajectory]
    ) -> dict[int, Tensor]:
        picked = [trajectories[index] for index in chosen]
        counts = [len(one.tokens) for one in picked]
        temperatures = torch.tensor([scoring_temperature(one.temperature) for one in picked])
        values = linear_log_probs(
            features,
            head.project,
            torch.cat([one.tokens for one in picked]).to(features.device),
            temperatures.repeat_interleave(torch.tensor(counts)).to(features.device),
            kept_of(picked, len(head.project.weight), features.device),
        )
        return dict(zip(chosen, values.split(counts), strict=True))
