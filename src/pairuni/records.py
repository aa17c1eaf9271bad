"""What a sample, a quadruple and a UG pair are. Imports no torch.

The pair format is the paper's released JSONL (arXiv:2510.25682, section 2.1): one pair a line, unknown
keys survive a round trip.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Origin = Literal["understanding", "generation"]
"""Which of the two corpora (U or G) a sample came from."""

PairKind = Literal["aligned", "retrieved"]

Text = Annotated[str, StringConstraints(min_length=1)]
Tag = Annotated[str, StringConstraints(min_length=0)]
"""May be empty. A string with constraints must be valid Unicode; a lone surrogate could not be written to a file."""


class Record(BaseModel):
    """Base of all records: values are checked strictly, unknown keys are kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class UnderstandingSample(Record):
    """Raw understanding data (I, Q, A): one element of U."""

    id: Text
    image_path: Text
    question: Text
    answer: Text
    tag: Tag = ""


class GenerationSample(Record):
    """Raw generation data (I, C): one element of G."""

    id: Text
    image_path: Text
    prompt: Text
    tag: Tag = ""


class Quadruple(Record):
    """A completed sample (I, C, Q, A) and the corpus it came from."""

    id: Text
    origin: Origin
    image_path: Text
    prompt: Text
    question: Text
    answer: Text
    tag: Tag = ""

    def annotation(self) -> Annotation:
        """This quadruple as one side of a pair; keys that a source added travel along."""
        return Annotation(**self.model_dump(exclude={"id", "origin"}))


class Annotation(Record):
    """One side of a pair, as in the released JSONL."""

    image_path: Text
    prompt: Text
    question: Text
    answer: Text
    tag: Tag = ""


class UGPair(Record):
    """One understanding-generation pair: the unit that PairGRPO trains on.

    The policy answers ``understand_ann.question`` about ``understand_ann.image_path`` and draws
    ``generate_ann.prompt``. ``similarity`` is the cosine of the two images' features, 1 if aligned.
    """

    similarity: float = Field(ge=0.0, le=1.0)
    generate_ann: Annotation
    understand_ann: Annotation

    @property
    def kind(self) -> PairKind:
        """An aligned pair has the same image on both sides; every other pair was retrieved."""
        same = self.generate_ann.image_path == self.understand_ann.image_path
        return "aligned" if same else "retrieved"


class Verdict(Record):
    """What a verification says of a quadruple; ``reason`` goes back to the writer when it is not ok."""

    ok: bool
    reason: str = ""
