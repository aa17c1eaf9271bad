"""The generation reward of the digits world: the share of a prompt's facts that an image shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from PIL import Image

from pairuni.config import RewardSettings
from pairuni.digits.detectors import Seen, reward_detector
from pairuni.digits.language import Request, Wanted, parse
from pairuni.digits.prompts import related
from pairuni.records import Annotation


class DigitsReward:
    """Graded score in [0, 1] by the reward detector; 1 only for an entirely correct image."""

    name = "digits"
    range = (0.0, 1.0)
    needs = ("prompt",)

    @classmethod
    def from_settings(cls, settings: RewardSettings) -> DigitsReward:
        """The reward; it has no settings."""
        return cls()

    def check_records(self, records: Sequence[Annotation]) -> None:
        """Raises ValueError if a prompt is not of the digits world."""
        for prompt in dict.fromkeys(record.prompt for record in records):
            try:
                parse(prompt)
            except ValueError as error:
                raise ValueError(f"the reward digits cannot score every prompt: {error}") from None

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        """One score per image. Raises ValueError if a prompt is not of the digits world."""
        requests = [parse(record.prompt) for record in records]
        readings = reward_detector().read(samples)
        return [grade(request, reading.things) for request, reading in zip(requests, readings, strict=True)]


def grade(request: Request, things: Sequence[Seen]) -> float:
    """Share of the required facts that hold, under the best assignment of things found to wanted things.

    Facts of a wanted thing are its presence in one of the four colours, its digit, and its colour and place if
    specified; a relation is one more fact. Each surplus thing costs one fact, so that filling the image does not pay.
    """
    wanted = request.wanted
    facts = sum(_facts(w) for w in wanted) + (request.relation is not None)
    surplus = max(0, len(things) - len(wanted))
    candidates: list[Seen | None] = [*things, *([None] * max(0, len(wanted) - len(things)))]
    best = max(_held(request, chosen) for chosen in permutations(candidates, len(wanted)))
    return max(0.0, best - surplus) / facts


def _facts(wanted: Wanted) -> int:
    return 2 + (wanted.colour is not None) + (wanted.place is not None)


def _held(request: Request, chosen: Sequence[Seen | None]) -> int:
    held = 0
    for wanted, seen in zip(request.wanted, chosen, strict=True):
        if seen is None:
            continue
        held += (seen.colour is not None) + (seen.digit == wanted.digit)
        held += wanted.colour is not None and seen.colour == wanted.colour
        held += wanted.place is not None and seen.place == wanted.place
    if request.relation is not None:
        first, second = chosen[0], chosen[1]
        if first is not None and second is not None:
            both = first.digit == request.wanted[0].digit and second.digit == request.wanted[1].digit
            held += both and related(request.relation, first.place, second.place)
    return held
