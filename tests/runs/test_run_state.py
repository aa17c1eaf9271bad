"""What a resume compares with the settings of the checkpoint."""

from pathlib import Path
from typing import Any

import pytest

from pairuni.config import RunSettings
from pairuni.runs.folder import RunFolder
from pairuni.runs.state import RunState, check_same_run

LORA = {"rank": 4, "alpha": 8.0, "targets": ["q_proj", "v_proj"]}


def settings(lora: dict[str, Any] | None) -> RunSettings:
    return RunSettings.model_validate(
        {"policy": {"model": "tiny", "lora": lora}, "data": {"pairs": "pairs.jsonl"}}
    )


def state(lora: dict[str, Any] | None) -> RunState:
    own = settings(lora)
    return RunState(
        num_tokens=0,
        seed=own.seed,
        pairs_per_update=2,
        steps=1200,
        pairs_sha256="a",
        pictures_sha256="b",
        policy_sha256="c",
        dtype="float32",
        settings=own.model_dump(mode="json"),
    )


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (LORA, LORA | {"alpha": 16.0}, "policy.lora.alpha was 8.0, is 16.0"),
        (LORA, LORA | {"rank": 8}, "policy.lora.rank was 4, is 8"),
        (
            LORA,
            LORA | {"targets": ["q_proj"]},
            r"policy.lora.targets was \['q_proj', 'v_proj'\], is \['q_proj'\]",
        ),
        (LORA, None, "policy.lora.rank was 4, is none"),
        (None, LORA, "policy.lora.rank was none, is 4"),
    ],
)
def test_adapters_of_another_shape_or_scale_are_refused(
    tmp_path: Path, was: dict[str, Any] | None, now: dict[str, Any] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=f"cannot resume in .*: {said}"):
        check_same_run(RunFolder(tmp_path), 1, state(was), state(now))


def test_the_same_adapters_may_come_from_another_place(tmp_path: Path) -> None:
    moved = LORA | {"targets": ["v_proj", "q_proj"], "adapter": "moved/final"}
    check_same_run(RunFolder(tmp_path), 1, state(LORA | {"adapter": "runs/first/final"}), state(moved))
    check_same_run(RunFolder(tmp_path), 1, state(None), state(None))
