"""Completion by a vision-language model: behind an endpoint, by batch files, or on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairuni.chat.address import check_secrets
from pairuni.chat.endpoint import Endpoint
from pairuni.chat.request import Answer, RequestFailed, Stopping
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.batch import BatchFiles
from pairuni.pairug.completion.costs import Budget, Plan, plan
from pairuni.pairug.completion.dialogue import Dialogue, Sample, dialogue
from pairuni.pairug.completion.model_tasks import task_of
from pairuni.pairug.completion.prompts import CaptionVerdict, QuestionVerdict
from pairuni.pairug.completion.requests import Request, RequestImage
from pairuni.pairug.completion.scheduling import Ended, Start, concurrently, in_rounds, next_request
from pairuni.pairug.record_file import Lazily

MODEL_ANNOTATORS = ("endpoint", "batch", "local")

_VERDICTS = (CaptionVerdict.__name__, QuestionVerdict.__name__)


@dataclass(frozen=True)
class ModelAnnotator:
    """A model as the annotator: how it is reached, and its settings."""

    name: str
    settings: CompletionSettings
    ask: Callable[[Request, Stopping], Answer] | None = None
    """Answers one request of the annotator "endpoint"; not needed for a plan."""

    @classmethod
    def make(cls, name: str, settings: CompletionSettings) -> ModelAnnotator:
        """An annotator ready to send requests. Raises ValueError for settings, ImportError for a missing package."""
        check_settings(name, settings)
        return cls(name, settings, Endpoint(settings) if name == "endpoint" else None)

    def complete(self, samples: Sequence[Sample], max_tries: int, store: AnswerStore, ended: Ended) -> None:
        """Run every sample's dialogue. Raises RequestsStopped and CompletionPaused."""
        starts = Lazily(len(samples), lambda number: self._start(samples[number], max_tries))
        budget = Budget(self.settings, store)
        if self.name == "batch":
            files = BatchFiles(store.path.parent.parent / "batch", self.settings, budget)
            files.read_results(store)
            in_rounds(starts, files.ask_all, store, ended, width=len(starts))
        elif self.name == "local":
            from pairuni.pairug.completion.local_model import LocalModel

            model = LocalModel(self.settings)
            in_rounds(starts, model.ask_all, store, ended, width=self.settings.concurrency)
        else:
            assert self.ask is not None
            ask = self.ask

            def within_budget(request: Request, stopping: Stopping) -> Answer:
                budget.reserve(request, stopping)
                try:
                    return store.put(request.key, ask(request, stopping))
                except RequestFailed as error:
                    store.charge(*error.spent)
                    raise
                finally:
                    budget.release(request)

            concurrently(starts, within_budget, store, ended, self.settings.concurrency)

    def plan(self, samples: Sequence[Sample], max_tries: int, store: AnswerStore | None) -> Plan:
        """The requests that are still to be sent; sends none."""

        def pending() -> Iterator[tuple[int, int, Request | None]]:
            for sample in samples:
                request, _ = next_request(self._start(sample, max_tries), store)
                verdict = request is not None and request.name in _VERDICTS
                yield 1 if verdict else 2, 2 * max_tries - verdict, request

        return plan(self.settings, store, pending())

    def _start(self, sample: Sample, max_tries: int) -> Start[Request]:
        def start() -> Dialogue[Request]:
            images = [RequestImage.of(Path(path), self.settings.image_side) for path in sample.image_paths]
            return dialogue(task_of(sample, images, self.settings), max_tries)

        return start


def check_settings(name: str, settings: CompletionSettings) -> None:
    """Raises ValueError for settings that are invalid when a model is the annotator."""
    check_secrets(settings, "completion")
    if not settings.model:
        raise ValueError(
            f"the annotator {name} needs a model: set completion.model, such as --completion.model "
            "Qwen/Qwen2.5-VL-7B-Instruct"
        )
    if settings.max_cost is not None and settings.price_input == settings.price_output == 0:
        raise ValueError(
            "completion.max_cost needs prices: set completion.price_input and completion.price_output, per "
            "million tokens"
        )
