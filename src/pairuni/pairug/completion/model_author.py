"""Puts a sample's tasks to a vision-language model: templates in, checked halves and verdicts out."""

from __future__ import annotations

from collections.abc import Sequence

from pairuni.chat.quoting import one_line
from pairuni.chat.replies import Reply, Unusable, read_reply, schema_of
from pairuni.chat.request import Answer
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.conversation import Half, Sample
from pairuni.pairug.completion.options import LETTERS, chosen_option, fault_of, shuffled, without_letters
from pairuni.pairug.completion.prompts import (
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
from pairuni.pairug.completion.requests import Picture, Request
from pairuni.records import UnderstandingSample, Verdict


class CaptionAuthor:
    """Of an understanding sample: (I, Q, A) -> C."""

    def __init__(self, sample: UnderstandingSample, picture: Picture, settings: CompletionSettings) -> None:
        self.sample = sample
        self.picture = picture
        self.settings = settings

    def write(self, refusals: Sequence[str]) -> Request:
        text = WRITE_CAPTION.format(question=self.sample.question, answer=self.sample.answer)
        return _request(self.settings, self.picture, text + refused(list(refusals)), CaptionReply)

    def written(self, answer: Answer) -> Half:
        """The caption. Raises Unusable when there is none or its own check fails."""
        reply = read_reply(answer, CaptionReply)
        caption = one_line(reply.caption)
        if not caption:
            raise Unusable("the caption is empty")
        if not reply.states_every_fact:
            raise Unusable(f"by its own check, {caption!r} leaves out a fact that the question needs")
        if not reply.names_only_what_is_shown:
            raise Unusable(f"by its own check, {caption!r} names what the picture does not show")
        return Half(prompt=caption)

    def check(self, half: Half, unread: Sequence[str]) -> Request:
        text = VERIFY_CAPTION.format(
            prompt=half.prompt, question=self.sample.question, answer=self.sample.answer
        )
        return _request(self.settings, self.picture, text + _unread(unread), CaptionVerdict)

    def verdict(self, half: Half, answer: Answer) -> Verdict:
        """Good when the caption is true, invents nothing, and leads to the answer."""
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


class QuestionAuthor:
    """Of a generation sample: (I, C) -> Q with options, of which the first is right."""

    def __init__(self, sample: Sample, picture: Picture, settings: CompletionSettings) -> None:
        assert not isinstance(sample, UnderstandingSample)
        self.sample = sample
        self.picture = picture
        self.settings = settings

    def write(self, refusals: Sequence[str]) -> Request:
        text = WRITE_QUESTION.format(prompt=self.sample.prompt, wrong=self.settings.options - 1)
        return _request(self.settings, self.picture, text + refused(list(refusals)), QuestionReply)

    def written(self, answer: Answer) -> Half:
        """The question and its options. Raises Unusable when they are not fit or their own check fails."""
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

    def check(self, half: Half, unread: Sequence[str]) -> Request:
        """The verifier answers the question itself: it is not told which option is held to be right."""
        listed = "\n".join(
            f"{letter}. {option}" for letter, option in zip(LETTERS, self._shown(half), strict=False)
        )
        text = VERIFY_QUESTION.format(prompt=self.sample.prompt, question=half.question, options=listed)
        return _request(self.settings, self.picture, text + _unread(unread), QuestionVerdict)

    def verdict(self, half: Half, answer: Answer) -> Verdict:
        """Good when caption and image each lead to the right option and the question asks for what C states."""
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


def author_of(
    sample: Sample, picture: Picture, settings: CompletionSettings
) -> CaptionAuthor | QuestionAuthor:
    """The author of the half that this sample lacks."""
    if isinstance(sample, UnderstandingSample):
        return CaptionAuthor(sample, picture, settings)
    return QuestionAuthor(sample, picture, settings)


def _request(settings: CompletionSettings, picture: Picture, text: str, reply: type[Reply]) -> Request:
    verifies = reply in (CaptionVerdict, QuestionVerdict)
    return Request(
        model=settings.verifier or settings.model if verifies else settings.model,
        system=SYSTEM,
        text=text,
        picture=picture,
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
