"""Annotators: the interface of a custom one, and the registry of all by name."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pairuni.chat.address import check_secrets
from pairuni.config import CompletionSettings
from pairuni.custom import make_instance
from pairuni.pairug.completion.model_annotator import MODEL_ANNOTATORS, ModelAnnotator
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample, Verdict

ANNOTATORS = {
    "scene": "pairuni.digits.annotator:SceneAnnotator",
    "scene-relations": "pairuni.digits.annotator:RelationsAnnotator",
}
"""Custom annotators by short name -> "module:Class", imported when requested."""


@runtime_checkable
class Annotator(Protocol):
    """Writes the missing half of a sample and verifies the resulting quadruple.

    Extra keys of a sample are on the quadruple too. Paths are relative to the working directory; ``image_paths`` has
    all images of a question, ``image_path`` the first.
    """

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        """A caption C that states every visual fact needed to answer the sample's question; of all its images.

        feedback: why the previous caption was refused, or None.
        """
        ...

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        """(Q, A) about visual elements that the sample's prompt names.

        feedback: why the previous question was refused, or None.
        """
        ...

    def verify(self, quadruple: Quadruple) -> Verdict:
        """Whether the new half of ``quadruple`` agrees with the original data; if not, the reason."""
        ...


def make_annotator(name: str, settings: CompletionSettings | None = None) -> Annotator | ModelAnnotator:
    """The annotator of this name: endpoint, batch or local by ``settings``, or a custom "package.module:Class".

    Raises ValueError, and ImportError when a package is missing.
    """
    settings = settings or CompletionSettings()
    if name in MODEL_ANNOTATORS:
        return ModelAnnotator.make(name, settings)
    check_secrets(settings, "completion")
    location = ANNOTATORS.get(name, name)
    if ":" not in location:
        known = ", ".join([*ANNOTATORS, *MODEL_ANNOTATORS])
        raise ValueError(f"no annotator is called {name!r}; known: {known}, or package.module:Class")
    what = f"the annotator {name!r}"
    annotator = make_instance(location, what)
    if not isinstance(annotator, Annotator):
        raise ValueError(f"{what} lacks one of the methods caption, question and verify")
    return annotator
