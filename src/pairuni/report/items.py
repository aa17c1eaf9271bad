"""Sections with the same held-out items before and after training."""

from __future__ import annotations

from collections.abc import Callable

from pairuni.records import Task
from pairuni.report.images import image_tag
from pairuni.report.markup import escape, section
from pairuni.report.statistics import evenly_spaced
from pairuni.runs.evaluations import Item, MarkedItem
from pairuni.runs.run import Run

Card = Callable[[MarkedItem, MarkedItem], str]
OUTCOMES = (
    ("Wrong before, right after", False, True, 12),
    ("Right before, wrong after", True, False, 8),
    ("Right both times", True, True, 6),
    ("Wrong both times", False, False, 6),
)
"""Heading, correct before, correct after, and the number of items shown."""
SELECTION = "Large groups show an evenly spaced selection."


def generated_images(run: Run) -> str:
    def card(before: MarkedItem, after: MarkedItem) -> str:
        return (
            f'<li class="image-pair"><p>{escape(after.prompt)}</p><div class="two">'
            f"{_figure(run, before, 'before')}{_figure(run, after, 'after')}</div></li>"
        )

    return _compared(
        run,
        "generation",
        "Images, before and after",
        "The same held-out prompts, generated before and after training. Below wrong images: what the detector saw.",
        card,
        "images",
    )


def answers(run: Run) -> str:
    def card(before: MarkedItem, after: MarkedItem) -> str:
        image = after.image or before.image
        shown = image_tag(run.folder.root, image, "the image of the question") if image else ""
        return (
            f'<li class="question">{shown}<div><p>{escape(after.question)}</p><dl>'
            f"<dt>expected</dt><dd>{escape(after.answer)}</dd>"
            f"<dt>before</dt><dd>{mark(before.correct)} {reply(before)}</dd>"
            f"<dt>after</dt><dd>{mark(after.correct)} {reply(after)}</dd></dl></div></li>"
        )

    return _compared(
        run,
        "understanding",
        "Answers, before and after",
        "The same held-out questions, answered before and after training.",
        card,
        "answers",
    )


def _compared(run: Run, task: Task, title: str, note: str, card: Card, name: str) -> str:
    first, second = run.before.task(task), run.after.task(task)
    if first is None or second is None or not first.items or not second.items:
        return ""
    groups = []
    matched = list(zip(first.items, second.items, strict=True))
    for heading, was, is_now, most in OUTCOMES:
        found = [(b, a) for b, a in matched if (b.correct, a.correct) == (was, is_now)]
        if found:
            imaged = [(b, a) for b, a in found if a.image and (b.image or task == "understanding")]
            shown = evenly_spaced(imaged or found, most)
            of = f"{len(shown)} of {len(found):,}" if len(shown) < len(found) else f"{len(found):,}"
            cards = "".join(card(b, a) for b, a in shown)
            groups.append(f'<h3>{heading} <small>{of}</small></h3><ol class="{name}">{cards}</ol>')
    return section(name, title, "".join(groups), f"{note} {SELECTION}")


def _figure(run: Run, item: MarkedItem, when: str) -> str:
    alt = f"generated {when} training, {'right' if item.correct else 'wrong'}: {item.prompt}"
    shown = image_tag(run.folder.root, item.image, alt)
    seen = f"<i>detected: {reply(item)}</i>" if item.reply and not item.correct else ""
    return f"<figure>{shown}<figcaption>{mark(item.correct)} {when}{seen}</figcaption></figure>"


def mark(correct: bool) -> str:
    """A tick or a cross."""
    return (
        '<span class="right" role="img" aria-label="right">✓</span>'
        if correct
        else '<span class="wrong" role="img" aria-label="wrong">✗</span>'
    )


def reply(item: Item) -> str:
    """The reply of an item, the middle of a long one left out."""
    text = item.reply.strip()
    shown = text if len(text) <= 160 else text[:80] + " … " + text[-70:]
    return escape(shown) if shown else "<i>nothing</i>"
