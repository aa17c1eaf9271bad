"""What a harness asks, as a policy takes it: one image, one text, groups of equal settings in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from pairuni.io.images import IMAGE_SUFFIXES, load_image
from pairuni.io.rgb import as_rgb
from pairuni.policies.images import side_by_side
from pairuni.policies.policy import TextSampling, TextTrajectory, UnifiedPolicy

SeveralImages = Literal["error", "row", "first"]
"""What becomes of a question about several images, of which a policy takes one."""

DEFAULT_NEW_TOKENS = 128
"""Tokens of an answer where a task names no number."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1, 0),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "no_repeat_ngram_size": (None, 0),
}
"""Settings that no policy has, and their values that change nothing."""

_NEUTRAL_DRAWS: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 0),
    "top_k": (None, 0, -1),
    "min_p": (None, 0),
}
"""The same, of settings that matter only where tokens are drawn."""


@dataclass(frozen=True)
class AnswerSettings:
    """How an answer is made. temperature 0 is greedy; an answer ends before the first of ``stops``."""

    max_new_tokens: int = DEFAULT_NEW_TOKENS
    temperature: float = 0.0
    stops: tuple[str, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any], *, max_new_tokens: int = DEFAULT_NEW_TOKENS) -> AnswerSettings:
        """From generation settings by their names in ``transformers`` and lm-eval (``until``, ``max_gen_toks``).

        Tokens are drawn where the temperature is above 0, or where ``do_sample`` is true and no temperature is
        given; ``do_sample`` false is greedy whatever the temperature. Names that mean nothing to a policy, such
        as another model's image settings, are passed over. Raises ValueError for one that would change the
        answer and that no policy has, such as several beams.
        """
        longest = given.get("max_new_tokens") or given.get("max_gen_toks") or max_new_tokens
        sample, temperature = given.get("do_sample"), given.get("temperature")
        if sample is False:
            temperature = 0.0
        elif temperature is None:
            temperature = 1.0 if sample else 0.0
        refused = _NEUTRAL | _NEUTRAL_DRAWS if float(temperature) > 0 else _NEUTRAL
        for name, neutral in refused.items():
            if given.get(name) not in neutral:
                raise ValueError(
                    f"The task asks for {name}={given[name]}, which no policy has; "
                    f"override it with {name}={neutral[1]}, and say so beside the score."
                )
        stops = given.get("until") or ()
        stops = (stops,) if isinstance(stops, str) else tuple(stop for stop in stops if stop)
        return cls(max_new_tokens=int(longest), temperature=float(temperature), stops=stops)


@dataclass(frozen=True)
class Question:
    """A text and the images it is about, which are opened when its turn comes."""

    text: str
    pictures: Callable[[], Sequence[Any]]
    settings: AnswerSettings


def answers(
    policy: UnifiedPolicy,
    questions: Sequence[Question],
    *,
    batch_size: int,
    several_images: SeveralImages,
    seed: int = 0,
) -> Iterator[list[tuple[int, TextTrajectory, str]]]:
    """Batch by batch, (index of the question, trajectory, text up to a stop).

    Questions of equal settings share batches; a greedy answer does not depend on its batch. Draws depend on
    ``seed`` and on the place among the questions of equal settings.
    """
    groups: dict[AnswerSettings, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(question.settings, []).append(index)
    for settings, group in groups.items():
        for start in range(0, len(group), batch_size):
            chosen = group[start : start + batch_size]
            sampled = policy.sample_text(
                TextSampling(
                    images=[one_image(questions[index].pictures(), several_images) for index in chosen],
                    questions=[questions[index].text for index in chosen],
                    temperature=settings.temperature,
                    max_new_tokens=settings.max_new_tokens,
                    seed=seed + start,
                )
            )
            yield [
                (index, one, before_stop(one.text, settings.stops))
                for index, (one,) in zip(chosen, sampled, strict=True)
            ]


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before whichever of ``stops`` comes first."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def check_several_images(name: str) -> SeveralImages:
    """``name`` as a choice; raises ValueError for another word."""
    if name not in get_args(SeveralImages):
        raise ValueError(f"several_images is {name!r}; choose {', '.join(get_args(SeveralImages))}.")
    return name  # type: ignore[return-value]


def one_image(pictures: Sequence[Any], several: SeveralImages) -> Image.Image | None:
    """The one RGB image that a policy takes, or None for a question about text alone.

    ``images`` are PIL images or paths of image files. Several are an error, the first of them, or a
    "row" side by side. Raises ValueError for what is no image, such as a video.
    """
    opened = [_open(picture) for picture in pictures if picture is not None]
    if len(opened) > 1 and several == "error":
        raise ValueError(
            f"A question has {len(opened)} images, and the policy takes one; set several_images to row "
            "(side by side in one image) or first, and say so beside the score."
        )
    if not opened:
        return None
    return opened[0] if several == "first" else side_by_side(opened)


def _open(picture: Any) -> Image.Image:
    if isinstance(picture, Image.Image):
        return as_rgb(picture)
    if isinstance(picture, str | Path) and Path(picture).suffix.lower() in IMAGE_SUFFIXES:
        return load_image(Path(picture))
    raise ValueError(
        f"A question comes with {str(picture)[:80]!r}, which is no image; policies read images and text."
    )
