"""Images, answers and edits of named models, which load when they are first used."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from pairuni.console.counts import counted
from pairuni.placeholders import placeholder_fault

if TYPE_CHECKING:
    from pairuni.policies.policy import UnifiedPolicy

MOST_SEEDS = 16
MOST_PER_SEED = 16
MOST_IMAGES = 64
"""Limit for the images of one request."""
MOST_SHOWN = 16
"""Limit for the images of one question."""
MOST_CHARACTERS = 20_000
"""Limit for a prompt, a question or an instruction."""


@dataclass(frozen=True)
class Drawing:
    """An image and what made it: the image ``number`` (from 1) of ``seed``."""

    image: Image.Image
    seed: int
    number: int


class Models:
    """Models by name, each loaded when it is first used and then kept; a model serves one request at a time.

    names: as of ``load_model``: tiny, hub names, folders of models, runs or checkpoints. device, dtype: likewise.
    """

    def __init__(self, names: Sequence[str], *, device: str = "auto", dtype: str = "auto") -> None:
        self.names = list(dict.fromkeys(names))
        self._device, self._dtype = device, dtype
        self._loaded: dict[str, UnifiedPolicy] = {}
        self._locks = {name: threading.Lock() for name in self.names}

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded

    @contextmanager
    def using(self, name: str) -> Iterator[UnifiedPolicy]:
        """The model, for this request only. Raises ValueError for an unknown name, and as ``load_model`` does."""
        self._check_name(name)
        from pairuni.runs.models import load_model

        with self._locks[name]:
            if name not in self._loaded:
                self._loaded[name] = load_model(name, device=self._device, dtype=self._dtype)
            yield self._loaded[name]

    def _check_name(self, name: str) -> None:
        if name not in self._locks:
            raise ValueError(f"No model is called {name!r}; choose one of {', '.join(self.names)}.")

    def editors(self) -> list[str]:
        """The models that can edit images; no weights are read. Models that cannot be found are left out."""
        from pairuni.runs.models import check_edits

        found = []
        for name in self.names:
            try:
                check_edits(name)
            except (ValueError, OSError):
                continue
            found.append(name)
        return found

    def shows_several(self, name: str) -> bool:
        """Whether a question to the model may show several images; no weights are read."""
        from pairuni.runs.models import shows_several

        loaded = self._loaded.get(name)
        return shows_several(name) if loaded is None else loaded.several_images

    def draw(
        self,
        name: str,
        prompt: str,
        seeds: Sequence[int],
        count: int,
        *,
        guidance: float | None,
        temperature: float,
    ) -> Iterator[list[Drawing]]:
        """``count`` images of each seed, seed by seed, as `pairuni draw --seed SEED --count COUNT` makes them.

        guidance: None for the model's own. Raises ValueError for a request that cannot be served.
        """
        check_text("prompt", prompt)
        check_sampling(guidance=guidance, temperature=temperature)
        check_counts(seeds, count)
        for seed in seeds:
            with self.using(name) as policy:
                if (fault := policy.prompt_faults([prompt]).get(prompt)) is not None:
                    raise ValueError(f"The prompt {fault}.")
                images = policy.generate_images(
                    prompt, count, guidance=guidance, temperature=temperature, seed=seed
                )
            yield [Drawing(image, seed, number) for number, image in enumerate(images, start=1)]

    def answer(
        self, name: str, images: Sequence[Image.Image], question: str, *, max_new_tokens: int | None
    ) -> str:
        """The greedy answer to a question about one or several images, as `pairuni answer` gives it.

        Raises ValueError for a request that cannot be served, CannotShowSeveral among them; a model that takes one
        image a question is not loaded for that.
        """
        from pairuni.policies.requests import CannotShowSeveral

        check_shown(len(images))
        check_text("question", question)
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ValueError("An answer needs at least 1 token.")
        self._check_name(name)
        if len(images) > 1 and not self.shows_several(name):
            raise CannotShowSeveral(name, question, len(images))
        with self.using(name) as policy:
            faults = policy.question_faults([question], max_new_tokens or 1, len(images))
            if (fault := faults.get(question)) is not None:
                raise ValueError(f"The question {fault}.")
            return policy.answer(images, question, max_new_tokens=max_new_tokens)

    def edit(
        self,
        name: str,
        image: Image.Image | None,
        instruction: str,
        seeds: Sequence[int],
        *,
        guidance: float | None,
        image_guidance: float | None,
        temperature: float,
    ) -> Iterator[Drawing]:
        """The edited image of each seed, as `pairuni edit --seed SEED` makes it.

        Raises ValueError for a request that cannot be served, CannotEdit among them.
        """
        if image is None:
            raise ValueError("Choose an image first.")
        check_text("instruction", instruction)
        check_sampling(guidance=guidance, image_guidance=image_guidance, temperature=temperature)
        check_counts(seeds, 1)
        for seed in seeds:
            with self.using(name) as policy:
                edited = policy.edit_image(
                    image,
                    instruction,
                    guidance=guidance,
                    image_guidance=image_guidance,
                    temperature=temperature,
                    seed=seed,
                )
            yield Drawing(edited, seed, 1)


def read_seeds(text: str) -> list[int]:
    """Seeds as "0", "3, 5" or "0-3". Raises ValueError for anything else, and for more than ``MOST_SEEDS``."""
    seeds: list[int] = []
    for part in filter(None, re.split(r"[,\s]+", re.sub(r"\s*[-–]\s*", "-", text.strip()))):
        match = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", part, re.ASCII)
        if match is None:
            raise ValueError(
                f"{part[:40]!r} is not a seed; write numbers such as 0, 3, 5 or a range such as 0-3."
            )
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise ValueError(f"The range {part} ends before it begins.")
        if len(seeds) + last - first + 1 > MOST_SEEDS:
            raise ValueError(f"At most {MOST_SEEDS} seeds can be drawn at once.")
        seeds += range(first, last + 1)
    if not seeds:
        raise ValueError("Give at least one seed, such as 0.")
    return list(dict.fromkeys(seeds))


def read_count(text: str, what: str) -> int:
    """A number of things, such as "4". Raises ValueError unless it is a whole number from 1."""
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text.strip(), re.ASCII):
        raise ValueError(f"{text.strip()[:40]!r} is not a number of {what}; write 1 or more.")
    return int(text)


def read_number(text: str, what: str, *, needed: bool = False) -> float | None:
    """A number such as "5" or "2.5"; None for an empty text unless ``needed``. Raises ValueError for other text."""
    if not text.strip() and not needed:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text.strip()[:40]!r} is no {what}; write a number such as 1 or 2.5.") from None


def check_shown(count: int) -> None:
    """Raise ValueError for a question about no images, or too many."""
    if count < 1:
        raise ValueError("Choose an image first.")
    if count > MOST_SHOWN:
        raise ValueError(f"The question shows {count} images; at most {MOST_SHOWN} are accepted.")


def check_text(what: str, text: str) -> None:
    """Raise ValueError unless a model can be given the text."""
    if not text.strip():
        raise ValueError(f"Write {'an' if what[0] in 'aeiou' else 'a'} {what} first.")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The {what} has {len(text):,} characters; at most {MOST_CHARACTERS:,} are accepted."
        )
    if (fault := placeholder_fault(text)) is not None:
        raise ValueError(f"The {what} {fault}.")


def check_sampling(*, temperature: float, **guidance: float | None) -> None:
    """Raise ValueError for values that `pairuni draw` and `pairuni edit` refuse."""
    for name, value in guidance.items():
        if value is not None and not (math.isfinite(value) and value >= 1):
            raise ValueError(
                f"{name.replace('_', ' ').capitalize()} is at least 1, which turns it off; leave it empty for the "
                "model's own."
            )
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError("The temperature is at least 0, which is greedy.")


def check_counts(seeds: Sequence[int], count: int) -> None:
    """Raise ValueError for no images, or too many."""
    if not 1 <= count <= MOST_PER_SEED:
        raise ValueError(f"Draw 1 to {MOST_PER_SEED} images of a seed.")
    if len(seeds) * count > MOST_IMAGES:
        raise ValueError(
            f"{counted(len(seeds), 'seed')} with {counted(count, 'image')} each are more than {MOST_IMAGES} images."
        )
