"""Completion by a vision-language model: behind an endpoint, by files of a batch, or on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.chat.endpoint import Endpoint, check_secrets
from pairuni.chat.request import Answer, AskingFailed, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.asking import Begin, Ended, at_once, in_rounds, next_request
from pairuni.pairug.completion.batch import BatchFiles
from pairuni.pairug.completion.conversation import Conversation, Sample, converse
from pairuni.pairug.completion.costs import Budget, Plan, plan
from pairuni.pairug.completion.model_author import author_of
from pairuni.pairug.completion.prompts import CaptionVerdict, QuestionVerdict
from pairuni.pairug.completion.requests import Picture, Request
from pairuni.pairug.record_file import Lazily

MODEL_ANNOTATORS = ("endpoint", "batch", "local")

_VERDICTS = (CaptionVerdict.__name__, QuestionVerdict.__name__)


@dataclass(frozen=True)
class ModelAnnotator:
    """Which way a model is asked, and by which settings."""

    name: str
    settings: CompletionSettings
    ask: Callable[[Request, Stopping], Answer] | None = None
    """Of an endpoint: answers one request. None is enough for a plan."""

    @classmethod
    def make(cls, name: str, settings: CompletionSettings) -> ModelAnnotator:
        """Ready to ask. Raises ValueError for settings that cannot work, ImportError without a package."""
        check_settings(name, settings)
        return cls(name, settings, Endpoint(settings) if name == "endpoint" else None)

    def complete(self, samples: Sequence[Sample], max_tries: int, store: AnswerStore, ended: Ended) -> None:
        """Hold every sample's conversation. Raises AskingStopped and CompletionPaused."""
        begins = Lazily(len(samples), lambda number: self._begin(samples[number], max_tries))
        budget = Budget(self.settings, store)
        if self.name == "batch":
            files = BatchFiles(store.path.parent.parent / "batch", self.settings, budget)
            files.read_results(store)
            in_rounds(begins, files.ask_all, store, ended, width=len(begins))
        elif self.name == "local":
            from pairuni.pairug.completion.local_model import LocalModel

            model = LocalModel(self.settings)
            in_rounds(begins, model.ask_all, store, ended, width=self.settings.concurrency)
        else:
            assert self.ask is not None
            ask = self.ask

            def within_budget(request: Request, stopping: Stopping) -> Answer:
                budget.reserve(request, stopping)
                try:
                    return store.put(request.key, ask(request, stopping))
                except AskingFailed as error:
                    store.charge(*error.spent)
                    raise
                finally:
                    budget.release(request)

            at_once(begins, within_budget, store, ended, self.settings.concurrency)

    def plan(self, samples: Sequence[Sample], max_tries: int, store: AnswerStore | None) -> Plan:
        """What is still to be asked; asks nothing."""

        def pending() -> Iterator[tuple[int, int, Request | None]]:
            for sample in samples:
                request, _ = next_request(self._begin(sample, max_tries), store)
                verdict = request is not None and request.name in _VERDICTS
                yield 1 if verdict else 2, 2 * max_tries - verdict, request

        return plan(self.settings, store, pending())

    def _begin(self, sample: Sample, max_tries: int) -> Begin[Request]:
        def begin() -> Conversation[Request]:
            picture = Picture.of(Path(sample.image_path), self.settings.image_side)
            return converse(author_of(sample, picture, self.settings), max_tries)

        return begin


def check_settings(name: str, settings: CompletionSettings) -> None:
    """Raises ValueError for what only shows once it is known that a model completes."""
    check_secrets(settings, "completion")
    if not settings.model:
        raise ValueError(
            f"the annotator {name} needs a model: set completion.model, such as --completion.model "
            "Qwen/Qwen2.5-VL-7B-Instruct"
        )
    if settings.max_cost is not None and settings.price_input == settings.price_output == 0:
        raise ValueError(
            "completion.max_cost needs prices: set completion.price_input and completion.price_output, of a "
            "million tokens"
        )
