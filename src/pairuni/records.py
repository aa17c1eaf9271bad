"""The records of the pipeline: samples, quadruples and UG pairs. Imports no torch.

Pairs are stored in the paper's JSONL format (arXiv:2510.25682, section 2.1): one pair a line, unknown keys are
preserved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

Origin = Literal["understanding", "generation"]
"""The corpus (U or G) of a sample."""

Task = Literal["understanding", "generation"]
"""A task of a unified model: answering questions about images, generating images from prompts."""
TASKS: tuple[Task, Task] = ("understanding", "generation")

PairKind = Literal["aligned", "retrieved"]

Text = Annotated[str, StringConstraints(min_length=1)]
Tag = Annotated[str, StringConstraints(min_length=0)]
"""May be empty. The constraint makes pydantic refuse lone surrogates, which cannot be written to a file."""


def _paths(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise PydanticCustomError("image_paths", "must be a list of image paths")
    if not value:
        raise PydanticCustomError("image_paths", "must name at least one image")
    return tuple(value)


def _one_path(value: Any) -> tuple[Any, ...]:
    paths = _paths(value)
    if len(paths) > 1:
        raise PydanticCustomError("image_paths", "must name one image, because a prompt generates one")
    return paths


ImagePaths = Annotated[tuple[Text, ...], BeforeValidator(_paths)]
OneImagePath = Annotated[tuple[Text, ...], BeforeValidator(_one_path)]


class Record(BaseModel):
    """Base class of records: values are validated strictly, unknown keys are kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class ImageRecord(Record):
    """A record of one image, or of several that its question shows, in this order.

    One image is given and written as ``image_path``, several as the list ``image_paths``. Every record has both
    attributes: ``image_path`` is the first of ``image_paths``.
    """

    if TYPE_CHECKING:  # the classes below declare both, each in its own order
        image_paths: tuple[str, ...]
        image_path: str

    @model_validator(mode="before")
    @classmethod
    def _with_first(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "image_paths" not in values:
            return values
        paths = values["image_paths"]
        if paths is None:
            return {key: value for key, value in values.items() if key != "image_paths"}
        if values.get("image_path") is not None:
            return values
        first = paths[0] if isinstance(paths, list | tuple) and paths else None
        # of a list that is refused, one error is enough
        return {**values, "image_path": first if isinstance(first, str) and first else "-"}

    @model_validator(mode="after")
    def _with_all(self) -> Self:
        if not self.image_paths:
            object.__setattr__(self, "image_paths", (self.image_path,))
        if self.image_path != self.image_paths[0]:
            raise PydanticCustomError(
                "first_image", "has an image_path that is not the first of its image_paths; leave it out"
            )
        return self

    @model_serializer(mode="wrap")
    def _under_one_key(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        values = serialize(self)
        if len(self.image_paths) == 1:
            values.pop("image_paths", None)
        elif "image_paths" in values:
            values.pop("image_path", None)
            values["image_paths"] = list(self.image_paths)
        return values

    @property
    def image_fields(self) -> list[tuple[str, str]]:
        """The field and the path of each image, such as ("image_paths.1", "b.png")."""
        if len(self.image_paths) == 1:
            return [("image_path", self.image_path)]
        return [(f"image_paths.{place}", path) for place, path in enumerate(self.image_paths)]

    def with_images(self, paths: Sequence[str]) -> Self:
        """The record with these images in the place of its own."""
        return self.model_copy(update={"image_path": paths[0], "image_paths": tuple(paths)})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; a new ``image_path`` alone is the record's only image."""
        if update is not None and "image_path" in update and "image_paths" not in update:
            update = {**update, "image_paths": (update["image_path"],)}
        return super().model_copy(update=update, deep=deep)


class UnderstandingSample(ImageRecord):
    """Raw understanding data (I, Q, A): one element of U.

    id: names the sample in messages. image_paths: of the images that the question shows, relative to the file that
    holds the sample. image_path: the first. question: with its options, if it has any. answer: the true one. tag: kind
    of the question.
    """

    id: Text
    image_paths: ImagePaths = ()
    image_path: Text
    question: Text
    answer: Text
    tag: Tag = ""


class GenerationSample(ImageRecord):
    """Raw generation data (I, C): one element of G.

    id: names the sample in messages. image_path: relative to the file that holds the sample. image_paths: it alone.
    prompt: describes the image. tag: kind of the prompt.
    """

    id: Text
    image_paths: OneImagePath = ()
    image_path: Text
    prompt: Text
    tag: Tag = ""


class Quadruple(ImageRecord):
    """A completed sample (I, C, Q, A) and its corpus.

    id, image_paths, image_path, tag: of the sample. origin: its corpus. prompt, question, answer: given or written by
    an annotator. A prompt of several images describes all together; nothing is generated from it.
    """

    id: Text
    origin: Origin
    image_paths: ImagePaths = ()
    image_path: Text
    prompt: Text
    question: Text
    answer: Text
    tag: Tag = ""

    def annotation(self) -> Annotation:
        """This quadruple as one side of a pair; additional keys are kept."""
        return Annotation(**self.model_dump(exclude={"id", "origin"}))


class Annotation(ImageRecord):
    """One side of a pair, as in the paper's JSONL.

    image_paths: of the images that the question shows, relative to the pair file. image_path: the first. prompt: the
    caption C of the images. question: Q, about them. answer: A, the true one. tag: kind of the sample that the side was
    made of.
    """

    image_paths: ImagePaths = ()
    image_path: Text
    prompt: Text
    question: Text
    answer: Text
    tag: Tag = ""


def _of_one_image(side: Annotation) -> Annotation:
    if len(side.image_paths) > 1:
        raise PydanticCustomError(
            "several_images", "has several images, but what is generated from its prompt is one"
        )
    return side


class UGPair(Record):
    """One understanding-generation pair, the unit that PairGRPO trains on.

    The policy answers ``understand_ann.question`` about ``understand_ann.image_paths`` and generates an image for
    ``generate_ann.prompt``.

    similarity: cosine of the two sides' features, 1 if aligned. generate_ann: the side to generate, of one image.
    understand_ann: the side to answer, of one image or several.
    """

    similarity: float = Field(ge=0.0, le=1.0)
    generate_ann: Annotated[Annotation, AfterValidator(_of_one_image)]
    understand_ann: Annotation

    @property
    def kind(self) -> PairKind:
        """ "aligned" if both sides have the same image, else "retrieved"."""
        same = self.generate_ann.image_paths == self.understand_ann.image_paths
        return "aligned" if same else "retrieved"


class Verdict(Record):
    """The verification of a quadruple.

    ok: whether the quadruple is kept. reason: feedback for the next try if it is not.
    """

    ok: bool
    reason: str = ""
