"""The held-out score with policies that answer and draw by rule."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pairuni.digits.evaluation import evaluate
from pairuni.digits.language import parse
from pairuni.digits.prompts import PROMPT_KINDS, scene_for
from pairuni.digits.questions import QUESTION_KINDS
from pairuni.digits.scans import load_scans
from pairuni.digits.scenes import render
from pairuni.digits.world import HeldOut, held_out_items
from pairuni.intervals import wilson_interval

COUNT = 150


class Ruled:
    """Right where ``right`` says so, by the item's place in the order; else a wrong letter or no image."""

    def __init__(self, items: HeldOut, right) -> None:
        self.answers = {id(item.image): item.question.answer for item in items.understanding}
        self.right, self.asked, self.drawn, self.seen = right, 0, 0, []

    def sample_text(self, request):
        self.seen.append(("text", len(request.questions), request.rollouts, request.temperature))
        groups = []
        for image in request.images:
            answer = self.answers[id(image)]
            wrong = "B" if answer == "A" else "A"
            groups.append([SimpleNamespace(text=f" {answer if self.right(self.asked) else wrong} ")])
            self.asked += 1
        return groups

    def sample_images(self, request):
        self.seen.append(
            (
                "image",
                len(request.prompts),
                request.rollouts,
                request.temperature,
                request.guidance,
                request.branch,
            )
        )
        return [[SimpleNamespace(prompt=prompt)] for prompt in request.prompts]

    def decode_images(self, trajectories):
        rng = np.random.default_rng(0)
        pictures = []
        for trajectory in trajectories:
            picture = Image.new("RGB", (32, 32))
            if self.right(self.drawn):
                scene = scene_for(parse(trajectory.prompt), rng, None)
                # Scans that the marking detector knows, so that only the policy can be wrong.
                picture = Image.fromarray(render(scene, rng, load_scans("evaluation")))
            pictures.append(picture)
            self.drawn += 1
        return pictures


@pytest.fixture(scope="module")
def items() -> HeldOut:
    return held_out_items(0, COUNT)


def test_all_right_and_all_wrong(items: HeldOut) -> None:
    assert evaluate(Ruled(items, lambda row: True), items, guidance=5.0, seed=0).scores() == {
        "understanding": 1.0,
        "generation": 1.0,
    }
    assert evaluate(Ruled(items, lambda row: False), items, guidance=5.0, seed=0).scores() == {
        "understanding": 0.0,
        "generation": 0.0,
    }


def test_every_item_once_greedily_answered_and_drawn_with_guidance(items: HeldOut) -> None:
    policy, done = Ruled(items, lambda row: True), []
    evaluate(policy, items, guidance=3.0, seed=0, advance=done.append)
    assert sum(done) == 2 * COUNT
    text = [call for call in policy.seen if call[0] == "text"]
    image = [call for call in policy.seen if call[0] == "image"]
    assert sum(call[1] for call in text) == sum(call[1] for call in image) == COUNT
    assert {call[2:] for call in text} == {(1, 0.0)}
    assert {call[2:] for call in image} == {(1, 1.0, 3.0, "guided")}


def test_files_of_a_run(items: HeldOut, tmp_path: Path) -> None:
    # Kinds come in turn, so the first question kind and the first prompt kind alone are right.
    kinds = {"understanding": QUESTION_KINDS, "generation": PROMPT_KINDS}
    for task, names in kinds.items():
        first = range(0, COUNT, len(names))
        result = evaluate(Ruled(items, first.__contains__), items, guidance=5.0, seed=0)
        result.write(tmp_path / "run" / "evaluation", task)
        written = json.loads((tmp_path / "run" / "evaluation" / f"{task}.json").read_text())
        marked = written[task]
        assert marked["count"] == COUNT
        assert marked["score"] == result.scores()[task] == pytest.approx(1 / len(names))
        assert marked["interval"] == pytest.approx(wilson_interval(1 / len(names), COUNT))
        assert list(marked["by_kind"]) == list(names)
        scores = [kind["score"] for kind in marked["by_kind"].values()]
        assert scores == [1.0] + [0.0] * (len(names) - 1)
        for kind in marked["by_kind"].values():
            assert kind["interval"] == pytest.approx(wilson_interval(kind["score"], kind["count"]))
        assert sum(kind["count"] for kind in marked["by_kind"].values()) == COUNT

        assert sum(form["count"] for form in written["understanding"]["by_form"].values()) == COUNT
        shown = [row["image"] for row in marked["items"] if "image" in row]
        assert len(marked["items"]) == COUNT
        assert 0 < len(shown) < COUNT
        for path in shown:
            assert not Path(path).is_absolute()
            with Image.open(tmp_path / "run" / path) as image:
                assert image.size == (32, 32)
    rows = written["understanding"]["items"]
    assert {"kind", "correct", "reply", "question", "answer", "form", "reads", "image"} == set(rows[0])
    for form, scores in written["understanding"]["by_form"].items():
        assert [row["form"] for row in rows].count(form) == scores["count"]
        assert scores["reading_score"] == scores["score"]  # the replies are letters or open answers
    assert rows[0]["reply"] == rows[0]["answer"]
    drawn = written["generation"]["items"][0]
    assert drawn["prompt"] == items.generation[0].prompt
    assert drawn["reply"] != "nothing"
    assert written["generation"]["items"][1]["reply"] == "nothing"


def test_the_same_seed_scores_the_same(items: HeldOut) -> None:
    def rows(result):
        return [(one.asked, one.reply, one.correct) for one in [*result.understanding, *result.generation]]

    first, again = (
        evaluate(Ruled(items, lambda row: row % 3 == 0), items, guidance=5.0, seed=1) for _ in range(2)
    )
    assert rows(first) == rows(again)
