"""The prompts of benchmark questions for Janus-Pro, as VLMEvalKit gives them to it and the authors report with.

A policy adds its own roles and the image before the text. VLMEvalKit's roles are User and Assistant without a system
prompt; a checkpoint's own are used here, because the model was trained with them.
"""

from __future__ import annotations

from collections.abc import Mapping

NAME = "VLMEvalKit's for Janus; roles and system prompt of the checkpoint"
_WORD = "Answer the question using a single word or phrase."
_LETTER = "Answer with the option's letter from the given choices directly."


def yes_no(question: str) -> str:
    """A yes/no question. As in VLMEvalKit's Janus, it has no suffix that asks for yes or no."""
    return f"{question}\n{_WORD}"


def choice(question: str, options: Mapping[str, str], *, hint: str = "") -> str:
    """A question with options by their letters."""
    lines = "".join(f"{letter}. {option}\n" for letter, option in options.items())
    return f"{f'Hint: {hint}' + chr(10) if hint else ''}{question}\n{lines}\n{_LETTER}"


def choice_within(question: str) -> str:
    """A question that already contains its options."""
    return f"{question}\n{_LETTER}"


def open_answer(question: str) -> str:
    """A question without options."""
    return f"{question}\nAnswer the question directly."
