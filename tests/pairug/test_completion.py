"""Generate, verify, generate again with the reason, drop; what was said is not asked for again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from completion_samples import complete as complete_into
from pairuni.config import CompletionSettings
from pairuni.pairug.completion.annotator import make_annotator
from pairuni.pairug.completion.answer_store import AnswerStore
from pairuni.pairug.completion.completion import CompletionReport
from pairuni.pairug.completion.custom_annotator import CompletionError
from pairuni.records import GenerationSample, Quadruple, UnderstandingSample, Verdict

U = UnderstandingSample(id="u", image_path="u.png", question="how many cats?", answer="two", scene=[2])
G = GenerationSample(id="g", image_path="g.png", prompt="a red car", tag="colour")


class Careless:
    """Right at try number ``right_at``; keeps the feedback that it was given."""

    def __init__(self, right_at: int = 1) -> None:
        self.right_at = right_at
        self.heard: list[str | None] = []

    def caption(self, sample: UnderstandingSample, feedback: str | None) -> str:
        self.heard.append(feedback)
        return f"{sample.answer} cats" if len(self.heard) >= self.right_at else f"cats {len(self.heard)}"

    def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
        self.heard.append(feedback)
        return "what colour is the car?", "red" if len(self.heard) >= self.right_at else ""

    def verify(self, quadruple: Quadruple) -> Verdict:
        ok = quadruple.answer in quadruple.prompt
        return Verdict(ok=ok, reason="" if ok else f"{quadruple.prompt!r} does not say {quadruple.answer}")


@pytest.fixture
def complete(tmp_path: Path):
    def run(samples: Sequence, annotator: Careless, max_tries: int) -> CompletionReport:
        with AnswerStore(tmp_path / "once.jsonl") as store:
            store.path.unlink()
            return complete_into(samples, annotator, max_tries, store=store)

    return run


def test_both_directions_make_quadruples_that_keep_all_keys(complete):
    report = complete([U, G], Careless(), 3)
    u, g = report.quadruples
    assert (u.origin, u.prompt, u.question, u.answer, u.scene) == (
        "understanding", "two cats", "how many cats?", "two", [2]
    )  # fmt: skip
    assert (g.origin, g.prompt, g.question, g.answer, g.tag) == (
        "generation", "a red car", "what colour is the car?", "red", "colour"
    )  # fmt: skip
    assert (report.tries, report.checks, report.retried, report.dropped) == (2, 2, 0, [])


def test_the_reason_is_the_next_try_s_feedback(complete):
    annotator = Careless(right_at=3)
    report = complete([U], annotator, 3)
    assert annotator.heard == [None, "'cats 1' does not say two", "'cats 2' does not say two"]
    assert (len(report.quadruples), report.tries, report.checks, report.retried) == (1, 3, 3, 1)


def test_what_is_never_right_is_dropped_with_the_last_reason(complete):
    report = complete([U], Careless(right_at=9), 2)
    (dropped,) = report.dropped
    assert (dropped.id, dropped.origin, dropped.image_path, dropped.tries, dropped.failed) == (
        "u", "understanding", "u.png", 2, False
    )  # fmt: skip
    assert dropped.reason == "refused 2 times, at last: 'cats 2' does not say two"
    assert (report.quadruples, report.failed) == ([], 0)


def test_an_empty_half_is_a_refusal(complete):
    annotator = Careless(right_at=2)
    assert len(complete([G], annotator, 2).quadruples) == 1
    assert annotator.heard == [None, "the answer is empty"]


def test_an_annotator_that_raises_is_reported_by_sample(complete):
    class Broken(Careless):
        def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
            raise KeyError("scene")

    with pytest.raises(CompletionError, match=r"generation sample 'g' \(KeyError: 'scene'\)") as caught:
        complete([U, G], Broken(), 3)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_stopped_run_asks_only_for_what_is_missing(complete, tmp_path):
    path = tmp_path / "cache" / "completion.jsonl"
    samples = [U, G, U.model_copy(update={"id": "v", "answer": "nine"})]
    whole = complete(samples, Careless(), 2)
    store = AnswerStore(path)
    first = complete_into(samples[:2], Careless(), 2, store=store)
    store.close()
    assert first.quadruples == whole.quadruples[:2]
    path.write_bytes(path.read_bytes() + b'{"key": "cut o')

    annotator = Careless()
    assert complete_into(samples, annotator, 2, store=AnswerStore(path)) == whole
    assert len(annotator.heard) == 1
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 6
    assert all(line.keys() == {"key", "answer"} for line in lines)

    class Other(Careless):
        pass

    other = Other()
    complete_into(samples, other, 2, store=AnswerStore(path))
    assert len(other.heard) == 3


def test_annotators_by_name():
    assert isinstance(make_annotator(f"{__name__}:Careless"), Careless)
    with pytest.raises(
        ValueError,
        match="no annotator is called 'gpt'; known: scene, scene-relations, endpoint, batch, local,",
    ):
        make_annotator("gpt")
    with pytest.raises(ValueError, match="the module nowhere, which was not found"):
        make_annotator("nowhere:At")
    with pytest.raises(ValueError, match="lacks one of the methods"):
        make_annotator("builtins:dict")
    with pytest.raises(ValueError, match=r"the annotator batch needs a model: set completion\.model"):
        make_annotator("batch")
    with pytest.raises(ValueError, match=r"completion\.max_cost needs prices"):
        make_annotator("batch", CompletionSettings(model="m", max_cost=3.0))
