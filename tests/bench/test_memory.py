"""Peak memory of one contender alone."""

import pytest

from benchmarks.child import run_module
from benchmarks.hardware import resident
from benchmarks.memory import peaks
from benchmarks.settings import UpdateBenchSettings

SETTINGS = UpdateBenchSettings(device="cpu", dtype="float32", answer_tokens=4, vocab_size=40_000)


@pytest.mark.slow
def test_logits_of_every_position_are_seen():
    """16 answers of about 30 positions, float32, logits and log-probs, against those of 4 positions each."""
    ballast = bytearray(1 << 30)
    ballast[:: 1 << 12] = b"x" * (1 << 18)  # what the parent holds must not count
    found = peaks("update", ["peers", "sampled-positions"], SETTINGS)
    del ballast
    assert all(peak["peak_bytes"] < 1 << 30 for peak in found.values())
    held = {name: peak["peak_bytes"] - peak["start_bytes"] for name, peak in found.items()}
    assert held["peers"] - held["sampled-positions"] > 16 * 26 * 40_000 * 4 * 2


def test_what_is_held_now_is_at_most_the_peak():
    before, _ = resident()
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * (1 << 14)
    now, most = resident()
    del block
    assert most >= now >= before + (60 << 20)


def test_a_failing_child_is_named_with_its_last_line():
    with pytest.raises(RuntimeError, match=r"json\.tool no-such-file ended with code 2: .*no-such-file"):
        run_module("json.tool", "no-such-file")
