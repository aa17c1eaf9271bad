"""What several runs generate for the same prompts and answer to the same questions, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.report.axes import number
from pairuni.report.comparison.runs import Compared
from pairuni.report.comparison.scores import Scored, last_scored
from pairuni.report.images import image_tag
from pairuni.report.items import mark, reply
from pairuni.report.markup import escape, section
from pairuni.report.statistics import evenly_spaced
from pairuni.runs.evaluations import Item

SHOWN_PROMPTS = 8
SHOWN_QUESTIONS = 8
MOST_IMAGES = 96
"""Images of the page's prompts, of all runs together."""


@dataclass(frozen=True)
class Shown:
    """An image of a run for a prompt. folder: what ``image`` is relative to; said: below it, as HTML."""

    folder: Path
    image: str
    said: str


def images(runs: Sequence[Compared]) -> str:
    """Images for prompts that runs share: held-out ones, or else those of rollouts."""
    found, of = _held_out_images(runs), "held-out prompts of {}, at the last evaluation of each."
    shared = _shared(found)
    if shared is None:
        found, of = (
            _rollout_images(runs),
            "training prompts of {}: a rollout of the last saved step that has it.",
        )
        shared = _shared(found)
    if shared is None:
        return ""
    letters, prompts = shared
    chosen = evenly_spaced(prompts, min(SHOWN_PROMPTS, max(2, MOST_IMAGES // len(letters))))
    with_prompts = [one for one in runs if one.letter in letters]
    rows = "".join(
        f'<li><p>{escape(prompt)}</p><div class="strip">'
        + "".join(_figure(one, found[one.letter][prompt], prompt) for one in with_prompts)
        + "</div></li>"
        for prompt in chosen
    )
    note = f"{len(chosen):,} of {len(prompts):,} {of.format(', '.join(letters))}"
    return section("images", "Images for the same prompts", f'<ol class="rollouts">{rows}</ol>', note)


def answers(runs: Sequence[Compared]) -> str:
    """The last answers of the largest set of runs that were evaluated on the same questions."""
    scored = [one for run in runs if (one := last_scored(run, "understanding")) and one.items]
    groups: list[list[Scored]] = []
    for one in scored:
        group = next((group for group in groups if group[0].identity == one.identity), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    group = max(groups, key=len, default=[])
    if len(group) < 2:
        return ""
    count = len(group[0].items)
    chosen = evenly_spaced(range(count), SHOWN_QUESTIONS)
    cards = "".join(_answers(group, index) for index in chosen)
    letters = ", ".join(one.run.letter for one in group)
    note = f"{len(chosen):,} of {count:,} held-out questions of {letters}, at the last evaluation of each."
    return section("answers", "Answers to the same questions", f'<ol class="answers">{cards}</ol>', note)


def _shared(found: Mapping[str, Mapping[str, Shown]]) -> tuple[list[str], list[str]] | None:
    """The runs and the prompts of the largest set of runs with prompts in common; None if no two have any."""
    by_runs: dict[tuple[str, ...], list[str]] = {}
    for prompt in dict.fromkeys(prompt for own in found.values() for prompt in own):
        by_runs.setdefault(tuple(letter for letter, own in found.items() if prompt in own), []).append(prompt)
    letters = max(by_runs, key=lambda letters: (len(letters), len(by_runs[letters])), default=())
    return (list(letters), by_runs[letters]) if len(letters) > 1 else None


def _held_out_images(runs: Sequence[Compared]) -> dict[str, dict[str, Shown]]:
    found: dict[str, dict[str, Shown]] = {}
    for run in runs:
        if one := last_scored(run, "generation"):
            own = found.setdefault(run.letter, {})
            for item in one.items:
                if item.image:
                    said = f"{one.when}<br>{_outcome(item)}"
                    own.setdefault(item.prompt, Shown(run.run.folder.root, item.image, said))
    return found


def _rollout_images(runs: Sequence[Compared]) -> dict[str, dict[str, Shown]]:
    found: dict[str, dict[str, Shown]] = {}
    for run in runs:
        for row in run.run.samples:
            if row.images:
                first = row.images[0]
                reward = "" if first.reward is None else f"<br>{number(first.reward)}"
                shown = Shown(run.run.folder.samples, first.image, f"step {row.step:,}{reward}")
                found.setdefault(run.letter, {})[row.prompt] = shown
    return found


def _figure(one: Compared, shown: Shown, prompt: str) -> str:
    return (
        f"<figure>{image_tag(shown.folder, shown.image, f'{one.letter} {one.name}: {prompt}')}"
        f"<figcaption>{one.key} {shown.said}</figcaption></figure>"
    )


def _answers(group: Sequence[Scored], index: int) -> str:
    item = group[0].items[index]
    image = (
        image_tag(group[0].run.run.folder.root, item.image, "the image of the question") if item.image else ""
    )
    replies = "".join(
        f"<dt>{one.run.key}</dt><dd>{_outcome(one.items[index])} {reply(one.items[index])}</dd>"
        for one in group
    )
    return (
        f'<li class="question">{image}<div><p>{escape(item.question)}</p>'
        f"<dl><dt>expected</dt><dd>{escape(item.answer)}</dd>{replies}</dl></div></li>"
    )


def _outcome(item: Item) -> str:
    if item.reward is not None:
        return number(item.reward)
    return "" if item.correct is None else mark(item.correct)
