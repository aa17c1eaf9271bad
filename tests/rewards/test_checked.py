import subprocess
import sys
import threading
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from pairuni.records import Annotation
from pairuni.rewards.checked import RewardError, checked_scores

RECORDS = [
    Annotation(image_path=f"{i}.png", prompt=f"draw {i}", question="q", answer="a", id=f"u-{i}")
    for i in range(4)  # type: ignore[call-arg]
]
SAMPLES = ["good", "good", "bad", "good"]


class Reward:
    name = "mine"

    def __init__(self, on_bad: Any) -> None:
        self.on_bad = on_bad

    def __call__(self, records: Any, samples: Any) -> Any:
        return [self.on_bad() if sample == "bad" else 1.0 for sample in samples]


def test_scores_are_floats() -> None:
    assert checked_scores(Reward(lambda: 1), RECORDS, SAMPLES) == [1.0] * 4
    assert checked_scores(Reward(lambda: 0.25), RECORDS, SAMPLES, timeout=5.0) == [1.0, 1.0, 0.25, 1.0]


@pytest.mark.parametrize(
    "score", [np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor([0.5]), Fraction(1, 2)]
)
def test_scalars_of_other_types_are_scores(score: Any) -> None:
    (_, _, given, _) = checked_scores(Reward(lambda: score), RECORDS, SAMPLES)
    assert (given, type(given)) == (0.5, float)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_reward_cannot_end_the_process(timeout: float | None) -> None:
    def leave() -> float:
        sys.exit(0)

    with pytest.raises(RewardError, match=r"'mine' failed on sample u-2, .*SystemExit"):
        checked_scores(Reward(leave), RECORDS, SAMPLES, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_an_exception_is_reported_with_its_record(timeout: float | None) -> None:
    def fail() -> float:
        raise KeyError("no such thing")

    with pytest.raises(
        RewardError, match=r"'mine' failed on sample u-2, 2\.png .*draw 2.*no such thing"
    ) as caught:
        checked_scores(Reward(fail), RECORDS, SAMPLES, timeout=timeout)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (None, "None, not a number"),
        ("x", "'x', not"),
        ("0.5", "'0.5', not"),
        (True, "True, not"),
        (np.bool_(True), ".*True.*, not"),
        (torch.tensor([0.5, 1.0]), ".*, not"),
        (torch.tensor(float("nan")), "nan"),
        (-torch.finfo(torch.float32).max, r"-3.40282e\+38, beyond the largest score of 1e\+15,"),
    ],
)
def test_an_invalid_score_is_reported_with_its_record(score: Any, said: str) -> None:
    with pytest.raises(RewardError, match=rf"'mine' gave {said}.* for sample u-2"):
        checked_scores(Reward(lambda: score), RECORDS, SAMPLES)


@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5}, "a dict"),
        ({0.1, 0.2, 0.3, 0.4}, "a set"),
        ("1010", "a str"),
        (None, "None"),
        (0.5, "a float"),
    ],
)
def test_what_is_no_list_of_scores_is_refused(given: Any, said: str, timeout: float | None) -> None:
    class Whole:
        name = "mine"

        def __call__(self, records: Any, samples: Any) -> Any:
            return given

    with pytest.raises(RewardError, match=f"'mine' gave {said}, not a list with a score for each sample"):
        checked_scores(Whole(), RECORDS, SAMPLES, timeout=timeout)


def test_generators_and_arrays_are_lists_of_scores() -> None:
    class Whole(Reward):
        def __call__(self, records: Any, samples: Any) -> Any:
            return self.on_bad()

    for given in (iter([0.0, 1.0, 2.0, 3.0]), np.arange(4.0), torch.arange(4.0), range(4)):
        assert checked_scores(Whole(lambda given=given: given), RECORDS, SAMPLES) == [0.0, 1.0, 2.0, 3.0]


def test_a_hang_is_reported_with_its_record() -> None:
    release = threading.Event()
    with pytest.raises(
        RewardError, match=r"'mine' gave no answer within 0\.2 seconds on sample u-2.*reward\.timeout"
    ):
        checked_scores(Reward(lambda: release.wait(60)), RECORDS, SAMPLES, timeout=0.2)
    release.set()


def test_a_failure_of_batches_only_is_reported() -> None:
    class Batches:
        name = "batches"

        def __call__(self, records: Any, samples: Any) -> list[float]:
            if len(samples) > 1:
                raise MemoryError
            return [1.0]

    with pytest.raises(RewardError, match="failed on a batch of 4, but on no single sample"):
        checked_scores(Batches(), RECORDS, SAMPLES)


def test_a_hung_reward_does_not_keep_the_process_alive() -> None:
    code = (
        "import time; from pairuni.rewards.checked import checked_scores\n"
        "from pairuni.records import Annotation\n"
        "record = Annotation(image_path='a.png', prompt='p', question='q', answer='a')\n"
        "class Hung:\n"
        "    name = 'hung'\n"
        "    def __call__(self, records, samples): time.sleep(600)\n"
        "checked_scores(Hung(), [record], ['x'], timeout=0.2)\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "RewardError: reward 'hung' gave no answer within 0.2 seconds on a.png" in done.stderr
    assert time.monotonic() - began < 50
