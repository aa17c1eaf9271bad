"""Prompts of GenEval's six kinds for the digits world, and scenes that satisfy them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from typing import Literal, get_args

import numpy as np

from pairuni.digits.language import RELATIONS, Request, Wanted, sentence
from pairuni.digits.scenes import COLOURS, PLACES, Scene, Split, Thing, split_of

PromptKind = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
"""GenEval's names (arXiv:2310.11513)."""

PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)


def random_request(rng: np.random.Generator, kind: PromptKind, split: Split) -> Request:
    """A request of one kind whose wording belongs to ``split``."""
    while True:
        request = _random_request(rng, kind)
        if split_of(sentence(request)) == split:
            return request


def _random_request(rng: np.random.Generator, kind: PromptKind) -> Request:
    digit, other = (int(d) for d in rng.choice(10, size=2, replace=False))
    colour, other_colour = (str(c) for c in rng.choice(list(COLOURS), size=2))
    if kind == "single_object":
        return Request((Wanted(digit),))
    if kind == "two_object":
        return Request((Wanted(digit), Wanted(other)))
    if kind == "counting":
        return Request((Wanted(digit),) * int(rng.integers(2, 5)))
    if kind == "colors":
        return Request((Wanted(digit, colour),))
    if kind == "position":
        return Request((Wanted(digit), Wanted(other)), str(rng.choice(list(RELATIONS))))
    return Request((Wanted(digit, colour), Wanted(other, other_colour)))


def scene_for(request: Request, rng: np.random.Generator, split: Split | None) -> Scene:
    """A random scene that satisfies the request, of ``split`` unless that is None."""
    while True:
        things = [
            _thing(wanted, place, rng)
            for wanted, place in zip(request.wanted, _places(request, rng), strict=True)
        ]
        scene = Scene.of(things)
        if split is None or scene.split == split:
            return scene


def all_scenes(request: Request) -> list[Scene]:
    """Every scene that satisfies the request, once each."""
    colours = [[wanted.colour] if wanted.colour else list(COLOURS) for wanted in request.wanted]
    placings = [
        places
        for places in permutations(PLACES, len(request.wanted))
        if all(w.place in (None, place) for w, place in zip(request.wanted, places, strict=True))
        and (request.relation is None or related(request.relation, places[0], places[1]))
    ]
    scenes = (
        Scene.of(map(Thing, places, (w.digit for w in request.wanted), chosen))
        for places in placings
        for chosen in product(*colours)
    )
    return list(dict.fromkeys(scenes))


def _thing(wanted: Wanted, place: str, rng: np.random.Generator) -> Thing:
    colour = wanted.colour or str(rng.choice(list(COLOURS)))
    return Thing(place, wanted.digit, colour)


def _places(request: Request, rng: np.random.Generator) -> list[str]:
    """A place for every wanted thing: the one specified, otherwise a free one that satisfies the relation."""
    asked = {w.place for w in request.wanted if w.place}
    while True:
        free = [p for p in rng.permutation(list(PLACES)) if p not in asked]
        places = [w.place or str(free.pop()) for w in request.wanted]
        if request.relation is None or related(request.relation, places[0], places[1]):
            return places


def related(relation: str, first: str, second: str) -> bool:
    """Whether a thing at ``first`` has this relation to one at ``second``; on a diagonal, two relations hold."""
    (row, column), (other_row, other_column) = PLACES[first], PLACES[second]
    down, right = RELATIONS[relation]
    return down * (row - other_row) + right * (column - other_column) > 0


def satisfies(scene: Scene, request: Request) -> bool:
    """Whether a scene shows exactly what the request contains and nothing else."""
    return len(scene.things) == len(request.wanted) and _assign(
        list(request.wanted), list(scene.things), [], request
    )


def _assign(wanted: list[Wanted], things: list[Thing], taken: list[Thing], request: Request) -> bool:
    if not wanted:
        return request.relation is None or related(request.relation, taken[0].place, taken[1].place)
    return any(
        fits(wanted[0], thing)
        and _assign(wanted[1:], [t for t in things if t is not thing], [*taken, thing], request)
        for thing in things
    )


def fits(wanted: Wanted, thing: Thing) -> bool:
    """Whether a thing has the wanted digit, colour and place."""
    return replace(wanted, colour=wanted.colour or thing.colour, place=wanted.place or thing.place) == Wanted(
        thing.digit, thing.colour, thing.place
    )
