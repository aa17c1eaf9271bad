"""The main job end to end, made small: the same way as ``pairuni demo`` goes."""

import json
import logging
import os
import signal
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from pairuni import demo
from pairuni.config import PairGRPOSettings, RunSettings
from pairuni.digits.reward import DigitsReward
from pairuni.pairug.dataset.store import iter_problems, read_pairs
from pairuni.policies import load_policy
from pairuni.records import Annotation
from pairuni.runs.metrics import MetricsLog

STEPS = 3


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo.demo_settings

    def settings(seed: int, pairs: Path) -> RunSettings:
        full = whole(seed, pairs)
        steps = PairGRPOSettings(**{**full.pairgrpo.model_dump(), "steps": STEPS, "pairs_per_batch": 2})
        return full.model_copy(update={"pairgrpo": steps})

    monkeypatch.setattr(demo, "demo_settings", settings)
    monkeypatch.setattr(demo, "SAMPLES", 60)
    monkeypatch.setattr(demo, "HELD_OUT", 30)


class StopsAtTheSecondStep(DigitsReward):
    """Presses Ctrl-C while the second batch of images is scored."""

    calls = 0

    def __call__(self, records: Sequence[Annotation], samples: Sequence[Image.Image]) -> list[float]:
        self.calls += 1
        if self.calls == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__call__(records, samples)


def test_the_whole_way_and_a_stop_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pairuni")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    report = demo.run_demo(3, whole)
    summary = json.loads((whole / "summary.json").read_text())
    shares = [
        f"{task} {100 * summary['before'][task]:.0f}% -> {100 * summary['after'][task]:.0f}%"
        for task in ("understanding", "generation")
    ]
    assert f"held-out accuracy: {', '.join(shares)}" in caplog.messages
    assert "no checkpoint yet" not in caplog.text
    assert summary["seed"] == 3
    for scores in (summary["before"], summary["after"]):
        assert set(scores) == {"understanding", "generation"}
        assert all(0 < score < 1 for score in scores.values())
    pairs = whole / "pairug" / "pairs.jsonl"
    assert {pair.kind for pair in read_pairs(pairs)} == {"aligned", "retrieved"}
    assert not list(iter_problems(pairs))
    assert len(MetricsLog(whole / "metrics.jsonl").rows()) == STEPS
    HTMLParser().feed(report.read_text())
    assert load_policy(whole / "final").module.config.model_type == "janus"
    with pytest.raises(ValueError, match="already holds a run"):
        demo.run_demo(3, whole)

    with monkeypatch.context() as patched:
        patched.setattr(
            "pairuni.pairgrpo.rollout.image_reward", lambda name, settings: StopsAtTheSecondStep()
        )
        with pytest.raises(KeyboardInterrupt):
            demo.run_demo(3, stopped)
    assert len(MetricsLog(stopped / "metrics.jsonl").rows()) == 2
    with pytest.raises(ValueError, match="another seed"):
        demo.run_demo(4, stopped)
    demo.run_demo(3, stopped)
    again = json.loads((stopped / "summary.json").read_text())
    assert (again["before"], again["after"]) == (summary["before"], summary["after"])
    assert (stopped / "final" / "model.safetensors").read_bytes() == (
        whole / "final" / "model.safetensors"
    ).read_bytes()
