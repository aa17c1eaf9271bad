"""The stages of a build that several processes can share: completion, encoding, search for candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pairuni.config import PairsSettings
from pairuni.pairug.completion.annotator import Annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import outcomes_of
from pairuni.pairug.completion.dialogue import Outcome, Sample
from pairuni.pairug.completion.model_annotator import ModelAnnotator
from pairuni.pairug.engine import Engine, OneProcess
from pairuni.pairug.selection.encoders import Encoder
from pairuni.pairug.selection.features import EncodedImages, encode_features

Advance = Callable[[int], None]
"""Called with the number of items done since the last call."""


class Stages(Protocol):
    """Computes these stages, in this process or elsewhere, with the same results."""

    @property
    def engine(self) -> Engine:
        """Computes the blocks of the search for candidates."""
        ...

    def complete(self, samples: Sequence[Sample], store: AnswerStore, advance: Advance) -> list[Outcome]:
        """The outcome of every sample's completion, in order. New answers are added to ``store``."""
        ...

    def encode(self, image_paths: Sequence[str], advance: Advance) -> EncodedImages:
        """The features of the images, kept in the cache of the build."""
        ...


class LocalStages:
    """All stages in this process."""

    def __init__(
        self, settings: PairsSettings, annotator: Annotator | ModelAnnotator | None, encoder: Encoder
    ) -> None:
        self.engine = OneProcess()
        self._settings, self._annotator, self._encoder = settings, annotator, encoder

    def complete(self, samples: Sequence[Sample], store: AnswerStore, advance: Advance) -> list[Outcome]:
        assert self._annotator is not None, "only raw data is completed"
        return outcomes_of(
            samples, self._annotator, self._settings.max_tries, advance=lambda: advance(1), store=store
        )

    def encode(self, image_paths: Sequence[str], advance: Advance) -> EncodedImages:
        return encode_features(
            image_paths,
            self._encoder,
            batch_size=self._settings.batch_size,
            cache=feature_folder(self._settings.out),
            advance=advance,
        )


def feature_folder(out: Path) -> Path:
    """Where a build in ``out`` keeps features."""
    return out / "cache" / "features"
