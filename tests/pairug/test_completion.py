"""Generate, verify, generate again with the reason, drop; the journal of what was said."""

from __future__ import annotations

import json

import pytest

from pairuni.pairug.completion import CompletionError, complete, make_completer
from pairuni.pairug.journal import Journal
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


def test_both_directions_make_quadruples_that_keep_all_keys():
    report = complete([U, G], Careless(), 3)
    u, g = report.quadruples
    assert (u.origin, u.prompt, u.question, u.answer, u.scene) == (
        "understanding", "two cats", "how many cats?", "two", [2]
    )  # fmt: skip
    assert (g.origin, g.prompt, g.question, g.answer, g.tag) == (
        "generation", "a red car", "what colour is the car?", "red", "colour"
    )  # fmt: skip
    assert (report.tries, report.retried, report.dropped) == (2, 0, [])


def test_the_reason_is_the_next_try_s_feedback():
    completer = Careless(right_at=3)
    report = complete([U], completer, 3)
    assert completer.heard == [None, "'cats 1' does not say two", "'cats 2' does not say two"]
    assert (len(report.quadruples), report.tries, report.retried) == (1, 3, 1)


def test_what_is_never_right_is_dropped_with_the_last_reason():
    report = complete([U], Careless(right_at=9), 2)
    (dropped,) = report.dropped
    assert (dropped.id, dropped.origin, dropped.image_path, dropped.tries) == (
        "u",
        "understanding",
        "u.png",
        2,
    )
    assert dropped.reason == "refused 2 times, at last: 'cats 2' does not say two"
    assert report.quadruples == []


def test_an_empty_half_is_a_refusal():
    completer = Careless(right_at=2)
    assert len(complete([G], completer, 2).quadruples) == 1
    assert completer.heard == [None, "the answer is empty"]


def test_a_completer_that_raises_is_reported_by_sample():
    class Broken(Careless):
        def question(self, sample: GenerationSample, feedback: str | None) -> tuple[str, str]:
            raise KeyError("scene")

    with pytest.raises(CompletionError, match=r"generation sample 'g' \(KeyError: 'scene'\)") as caught:
        complete([U, G], Broken(), 3)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_stopped_run_asks_only_for_what_is_missing(tmp_path):
    path = tmp_path / "cache" / "journal.jsonl"
    samples = [U, G, U.model_copy(update={"id": "v", "answer": "nine"})]
    whole = complete(samples, Careless(), 2)
    first = complete(samples[:2], Careless(), 2, journal=Journal(path, ["a", 2]))
    assert first.quadruples == whole.quadruples[:2]
    path.write_bytes(path.read_bytes() + b'{"key": "cut o')

    completer = Careless()
    second = complete(samples, completer, 2, journal=Journal(path, ["a", 2]))
    assert second == whole
    assert len(completer.heard) == 1
    assert [json.loads(line).keys() for line in path.read_text().splitlines()] == [
        {"context"}, {"key", "outcome"}, {"key", "outcome"}, {"key", "outcome"}
    ]  # fmt: skip

    other = Careless()
    complete(samples, other, 2, journal=Journal(path, ["b", 2]))
    assert len(other.heard) == 3


def test_completers_by_name(monkeypatch):
    assert isinstance(make_completer(f"{__name__}:Careless"), Careless)
    with pytest.raises(ValueError, match="no completer is called 'gpt'; known: scene"):
        make_completer("gpt")
    with pytest.raises(ValueError, match="cannot be loaded: No module named 'nowhere'"):
        make_completer("nowhere:At")
    with pytest.raises(ValueError, match="lacks one of the methods"):
        make_completer("builtins:dict")
