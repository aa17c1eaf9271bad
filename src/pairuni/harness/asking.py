"""Requests of a harness as calls to a policy: images and one text each, batched by equal settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from pairuni.io.images import IMAGE_SUFFIXES, load_image
from pairuni.io.rgb import as_rgb
from pairuni.policies.images import side_by_side
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.requests import QuestionImages, TextSampling
from pairuni.policies.trajectories import TextTrajectory

SeveralImages = Literal["all", "error", "row", "first"]
"""How a question with several images is handled; some policies take one."""

DEFAULT_NEW_TOKENS = 128
"""Maximum answer length in tokens if a task sets none."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1, 0),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "no_repeat_ngram_size": (None, 0),
}
"""Settings that policies do not support, and the values that have no effect."""

_NEUTRAL_SAMPLING: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 0),
    "top_k": (None, 0, -1),
    "min_p": (None, 0),
}
"""The same for settings that only affect sampling."""


@dataclass(frozen=True)
class AnswerSettings:
    """How an answer is generated. Temperature 0 is greedy; an answer ends before the first of ``stops``."""

    max_new_tokens: int = DEFAULT_NEW_TOKENS
    temperature: float = 0.0
    stops: tuple[str, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Any], *, max_new_tokens: int = DEFAULT_NEW_TOKENS) -> AnswerSettings:
        """From generation settings by their names in ``transformers`` and lm-eval (``until``, ``max_gen_toks``).

        Decoding samples if the temperature is above 0, or if ``do_sample`` is true and no temperature is given;
        ``do_sample`` false is greedy at any temperature. Settings that do not apply to policies, such as another
        model's image settings, are ignored. Raises ValueError for an unsupported setting that would change the
        answer, such as several beams.
        """
        longest = given.get("max_new_tokens") or given.get("max_gen_toks") or max_new_tokens
        sample, temperature = given.get("do_sample"), given.get("temperature")
        if sample is False:
            temperature = 0.0
        elif temperature is None:
            temperature = 1.0 if sample else 0.0
        refused = _NEUTRAL | _NEUTRAL_SAMPLING if float(temperature) > 0 else _NEUTRAL
        for name, neutral in refused.items():
            if given.get(name) not in neutral:
                raise ValueError(
                    f"the task sets {name}={given[name]}, which policies do not support; "
                    f"override it with {name}={neutral[1]}, and report that with the score"
                )
        stops = given.get("until") or ()
        stops = (stops,) if isinstance(stops, str) else tuple(stop for stop in stops if stop)
        return cls(max_new_tokens=int(longest), temperature=float(temperature), stops=stops)


@dataclass(frozen=True)
class Question:
    """A text and its images, which are opened only when the question is processed."""

    text: str
    images: Callable[[], Sequence[Any]]
    settings: AnswerSettings


def answers(
    policy: UnifiedPolicy,
    questions: Sequence[Question],
    *,
    batch_size: int,
    several_images: SeveralImages,
    seed: int = 0,
) -> Iterator[list[tuple[int, TextTrajectory, str]]]:
    """Yield batches of (index of the question, trajectory, text before the first stop string).

    Questions with equal settings share batches; a greedy answer does not depend on its batch. A sampled answer depends
    on ``seed`` and on the question's position among those with equal settings.
    """
    groups: dict[AnswerSettings, list[int]] = {}
    for index, question in enumerate(questions):
        groups.setdefault(question.settings, []).append(index)
    for settings, group in groups.items():
        for start in range(0, len(group), batch_size):
            chosen = group[start : start + batch_size]
            sampled = policy.sample_text(
                TextSampling(
                    images=[
                        question_images(policy, questions[index].images(), several_images) for index in chosen
                    ],
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
    return text[: min((position for stop in stops if (position := text.find(stop)) >= 0), default=len(text))]


def check_several_images(name: str) -> SeveralImages:
    """Return ``name``. Raises ValueError unless it is one of the choices."""
    if name not in get_args(SeveralImages):
        raise ValueError(f"several_images is {name!r}; choose {', '.join(get_args(SeveralImages))}")
    return name  # type: ignore[return-value]


def question_images(policy: UnifiedPolicy, images: Sequence[Any], several: SeveralImages) -> QuestionImages:
    """What the policy is shown, as RGB; None for a text-only question.

    ``images`` are PIL images or paths of image files. If there are several, ``several`` decides: all, before the
    question and in order, an error, the first one, or a "row" that joins all. Raises ValueError for "all" where the
    policy takes one, and for other objects, such as a video.
    """
    opened = [_open(image) for image in images if image is not None]
    if not opened:
        return None
    if len(opened) == 1 or several == "first":
        return opened[0]
    if several == "row":
        return side_by_side(opened)
    if several == "all" and policy.several_images:
        return opened
    why = "which is an error here" if several == "error" else f"and the policy {policy.name} takes one"
    raise ValueError(
        f"a question has {len(opened)} images, {why}; set several_images to row "
        "(joined into one image) or first, and report that with the score"
    )


def _open(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return as_rgb(image)
    if isinstance(image, str | Path) and Path(image).suffix.lower() in IMAGE_SUFFIXES:
        return load_image(Path(image))
    raise ValueError(
        f"a question has {str(image)[:80]!r}, which is not an image; policies accept images and text"
    )
