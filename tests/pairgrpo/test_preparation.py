"""What is checked of a policy's settings before its weights are loaded, also by a dry run."""

from pathlib import Path
from typing import Any

import pytest

from pair_batches import run_settings
from pairuni.pairgrpo.preparation import checked_skeleton

BOTH = ["language_model", "generation_head"]


def policy(**changes: Any) -> dict[str, Any]:
    return {"policy": {"model": "tiny", **changes}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainable": ["tower"]}, "has no part tower"),
        ({"trainable": ["generation_head"], "lora": {}}, "trainable does not name language_model"),
        ({"lora": {"targets": ["wrong_proj"]}}, "wrong_proj"),
        ({"lora": {"adapter": "no/such/final"}}, "no/such/final has no adapter_config.json; give an adapter"),
    ],
)
def test_settings_that_do_not_fit_the_policy_are_refused_without_weights(
    changes: dict[str, Any], said: str
) -> None:
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match=said):
        checked_skeleton(run_settings(**policy(**changes)))


def test_an_adapter_of_another_rank_is_refused_without_weights(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from pairuni.policies.registry import load_policy

    first = run_settings(**policy(trainable=BOTH, lora={"rank": 2})).policy
    assert first.lora is not None
    made = load_policy("tiny", device="cpu", dtype="float32")
    made.add_adapters(first.lora, seed=0)
    made.save_adapter(tmp_path, dict(made.train_only(BOTH)))
    for rank, said in ((2, None), (3, "policy.lora.rank is 3, but the adapter in .* has 2")):
        settings = run_settings(**policy(trainable=BOTH, lora={"rank": rank, "adapter": str(tmp_path)}))
        if said is None:
            assert not any(
                "lora_" in name for name, _ in checked_skeleton(settings).module.named_parameters()
            )
            continue
        with pytest.raises(ValueError, match=said):
            checked_skeleton(settings)
