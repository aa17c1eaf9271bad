"""The records of the pipeline: samples, quadruples and UG pairs. Imports no torch.

Pairs are stored in the paper's JSONL format (arXiv:2510.25682, section 2.1): one pair a line, unknown keys are
preserved.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Origin = Literal["understanding", "generation"]
"""The corpus (U or G) of a sample."""

Task = Literal["understanding", "generation"]
"""A task of a unified model: answering questions about images, generating images from prompts."""
TASKS: tuple[Task, Task] = ("understanding", "generation")

PairKind = Literal["aligned", "retrieved"]

Text = Annotated[str, StringConstraints(min_length=1)]
Tag = Annotated[str, StringConstraints(min_length=0)]
"""May be empty. The constraint makes pydantic refuse lone surrogates, which cannot be written to a file."""


class Record(BaseModel):
    """Base class of records: values are validated strictly, unknown keys are kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class UnderstandingSample(Record):
    """Raw understanding data (I, Q, A): one element of U.

    id: names the sample in messages. image_path: relative to the file that holds the sample. question: with its
    options, if it has any. answer: the true one. tag: kind of the question.
    """

    id: Text
    image_path: Text
    question: Text
    answer: Text
    tag: Tag = ""


class GenerationSample(Record):
    """Raw generation data (I, C): one element of G.

    id: names the sample in messages. image_path: relative to the file that holds the sample. prompt: describes
    the image. tag: kind of the prompt.
    """

    id: Text
    image_path: Text
    prompt: Text
    tag: Tag = ""


class Quadruple(Record):
    """A completed sample (I, C, Q, A) and its corpus.

    id, image_path, tag: of the sample. origin: its corpus. prompt, question, answer: given or written by an annotator.
    """

    id: Text
    origin: Origin
    image_path: Text
    prompt: Text
    question: Text
    answer: Text
    tag: Tag = ""

    def annotation(self) -> Annotation:
        """This quadruple as one side of a pair; additional keys are kept."""
        return Annotation(**self.model_dump(exclude={"id", "origin"}))


class Annotation(Record):
    """One side of a pair, as in the paper's JSONL.

    image_path: relative to the pair file. prompt: the caption C of the image. question: Q, about the image. answer:
    A, the true one. tag: kind of the sample that the side was made of.
    """

    image_path: Text
    prompt: Text
    question: Text
    answer: Text
    tag: Tag = ""


class UGPair(Record):
    """One understanding-generation pair, the unit that PairGRPO trains on.

    The policy answers ``understand_ann.question`` about ``understand_ann.image_path`` and generates an image for
    ``generate_ann.prompt``.

    similarity: cosine of the two images' features, 1 if aligned. generate_ann: the side to generate. understand_ann:
    the side to answer.
    """

    similarity: float = Field(ge=0.0, le=1.0)
    generate_ann: Annotation
    understand_ann: Annotation

    @property
    def kind(self) -> PairKind:
        """ "aligned" if both sides have the same image, else "retrieved"."""
        same = self.generate_ann.image_path == self.understand_ann.image_path
        return "aligned" if same else "retrieved"


class Verdict(Record):
    """The verification of a quadruple.

    ok: whether the quadruple is kept. reason: feedback for the next try if it is not.
    """

    ok: bool
    reason: str = ""
