"""A sample's task for a vision-language model: prompts out, checked halves and verdicts in.

Reasons of refusals are quoted in the next prompt, so their wording is part of the keys of stored answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairuni.chat.quoting import one_line
from pairuni.chat.replies import Reply, Unusable, read_reply, schema_of
from pairuni.chat.request import Answer
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.dialogue import Half, Sample, Task
from pairuni.pairug.completion.options import LETTERS, chosen_option, fault_of, shuffled, without_letters
from pairuni.pairug.completion.prompts import (
    SEVERAL_PICTURES,
    SYSTEM,
    UNREAD,
    VERIFY_CAPTION,
    VERIFY_QUESTION,
    WRITE_CAPTION,
    WRITE_QUESTION,
    CaptionReply,
    CaptionVerdict,
    QuestionReply,
    QuestionVerdict,
    refused,
)
from pairuni.pairug.completion.requests import Request, RequestImage
from pairuni.records import GenerationSample, UnderstandingSample, Verdict


@dataclass(frozen=True)
class CaptionTask:
    """The task of an understanding sample: (I, Q, A) -> C, which describes several images together."""

    sample: UnderstandingSample
    images: tuple[RequestImage, ...]
    settings: CompletionSettings

    def write(self, refusals: Sequence[str]) -> Request:
        text = WRITE_CAPTION.format(question=self.sample.question, answer=self.sample.answer)
        return self._request(text + refused(list(refusals)), CaptionReply)

    def read_half(self, answer: Answer) -> Half:
        """The caption. Raises Unusable when there is none or it fails its self-check."""
        reply = read_reply(answer, CaptionReply)
        caption = one_line(reply.caption)
        if not caption:
            raise Unusable("the caption is empty")
        if not reply.states_every_fact:
            raise Unusable(f"by its own check, {caption!r} leaves out a fact that the question needs")
        if not reply.names_only_what_is_shown:
            raise Unusable(f"by its own check, {caption!r} names what the picture does not show")
        return Half(prompt=caption)

    def verify(self, half: Half, unread: Sequence[str]) -> Request:
        text = VERIFY_CAPTION.format(
            prompt=half.prompt, question=self.sample.question, answer=self.sample.answer
        )
        return self._request(text + _unread(unread), CaptionVerdict)

    def _request(self, text: str, reply: type[Reply]) -> Request:
        count = len(self.images)
        opening = SEVERAL_PICTURES.format(count=count) if count > 1 else ""
        return _request(self.settings, self.images, opening + text, reply)

    def read_verdict(self, half: Half, answer: Answer) -> Verdict:
        """Good when the caption is true, invents nothing and leads to the answer."""
        said = read_reply(answer, CaptionVerdict)
        faults = []
        if said.contradicts_picture:
            faults.append("it contradicts the picture")
        if said.invents:
            faults.append("it names what the picture does not show")
        if not said.answer_agrees:
            faults.append(
                f"it leads to the answer {one_line(said.answer_from_caption)!r}, not {self.sample.answer!r}"
            )
        return _verdict(f"the caption {half.prompt!r} does not hold: ", faults, said.reason)


@dataclass(frozen=True)
class QuestionTask:
    """The task of a generation sample: (I, C) -> Q with options, the right one first."""

    sample: GenerationSample
    image: RequestImage
    settings: CompletionSettings

    def write(self, refusals: Sequence[str]) -> Request:
        text = WRITE_QUESTION.format(prompt=self.sample.prompt, wrong=self.settings.options - 1)
        return _request(self.settings, (self.image,), text + refused(list(refusals)), QuestionReply)

    def read_half(self, answer: Answer) -> Half:
        """The question and its options. Raises Unusable when they are not valid or fail their self-check."""
        reply = read_reply(answer, QuestionReply)
        question = one_line(reply.question)
        wanted = self.settings.options - 1
        right, wrong = without_letters(one_line(reply.right), [one_line(option) for option in reply.wrong])
        wrong = wrong[:wanted]
        if not question:
            raise Unusable("the question is empty")
        if len(wrong) < wanted:
            raise Unusable(f"there are {len(wrong)} wrong options, not {wanted}")
        if fault := fault_of(question, right, wrong):
            raise Unusable(fault)
        checks = {
            "asks for what the caption does not state": reply.stated_by_caption,
            "cannot be answered from the picture": reply.visible_in_picture,
            "has more than one right option": reply.only_one_right,
        }
        for fault, passed in checks.items():
            if not passed:
                raise Unusable(f"by its own check, {question!r} {fault}")
        return Half(question=question, answer=right, options=(right, *wrong))

    def verify(self, half: Half, unread: Sequence[str]) -> Request:
        """The verifier answers the question itself; it is not told the right option."""
        listed = "\n".join(
            f"{letter}. {option}" for letter, option in zip(LETTERS, self._shown(half), strict=False)
        )
        text = VERIFY_QUESTION.format(prompt=self.sample.prompt, question=half.question, options=listed)
        return _request(self.settings, (self.image,), text + _unread(unread), QuestionVerdict)

    def read_verdict(self, half: Half, answer: Answer) -> Verdict:
        """Good when C and I each lead to the right option and the question asks for what C states."""
        said = read_reply(answer, QuestionVerdict)
        faults = []
        sources = {"caption": said.letter_from_caption, "picture": said.letter_from_picture}
        for source, letter in sources.items():
            chosen = chosen_option(letter, self._shown(half))
            if chosen != half.answer:
                led = one_line(letter).lower() if chosen is None else chosen
                faults.append(f"the {source} leads to {led!r}, not to {half.answer!r}")
        if not said.asks_what_caption_states:
            faults.append("it asks for what the caption does not state")
        if said.contradicts:
            faults.append("it contradicts the caption or the picture")
        return _verdict(f"the question {half.question!r} does not hold: ", faults, said.reason)

    def _shown(self, half: Half) -> list[str]:
        return shuffled(half.options, self.sample.id, half.question)


def task_of(sample: Sample, images: Sequence[RequestImage], settings: CompletionSettings) -> Task[Request]:
    """The task that writes the half that this sample lacks. images: those of the sample, in order."""
    if isinstance(sample, UnderstandingSample):
        return CaptionTask(sample, tuple(images), settings)
    return QuestionTask(sample, images[0], settings)


def _request(
    settings: CompletionSettings, images: tuple[RequestImage, ...], text: str, reply: type[Reply]
) -> Request:
    verifies = reply in (CaptionVerdict, QuestionVerdict)
    return Request(
        model=settings.verifier or settings.model if verifies else settings.model,
        system=SYSTEM,
        text=text,
        images=images,
        name=reply.__name__,
        schema=schema_of(reply),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
    )


def _unread(reasons: Sequence[str]) -> str:
    return UNREAD.format(reason=reasons[-1], attempt=len(reasons) + 1) if reasons else ""


def _verdict(opening: str, faults: Sequence[str], reason: str) -> Verdict:
    if not faults:
        return Verdict(ok=True)
    said = one_line(reason)
    return Verdict(ok=False, reason=opening + "; ".join(faults) + (f" ({said})" if said else ""))
