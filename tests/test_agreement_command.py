"""`pairuni agreement`: batches, resuming, mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from commands import call, fails
from pairuni.config import RunSettings, load_settings
from pairuni.pairgrpo import mixes
from pairuni.pairgrpo.agreement import gradient_agreement
from pairuni.pairgrpo.rollout import Rewards, rollout_batch
from pairuni.pairug.dataset.store import read_pairs
from pairuni.policies import load_policy
from pairuni.training.seeding import derive_seed, shuffled_indices
from user_folder import UserFolder

OPTIONS = (
    "--reward.understanding=user_folder:Letters",
    "--rollout.understanding=6",
    "--rollout.generation=4",
    "--rollout.max-new-tokens=6",
)


@pytest.fixture
def user(tmp_path: Path) -> UserFolder:
    return UserFolder(tmp_path / "user")


def command(user: UserFolder, out: Path, *words: str) -> tuple[str, ...]:
    return ("agreement", str(user.recipe), "--out", str(out), *OPTIONS, *words)


def rows(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "agreement.jsonl").read_text().splitlines()]
    assert len({(row["mix"], row["batch"]) for row in lines}) == len(lines)
    return {(row["mix"], row["batch"]): row["agreement"] for row in lines}


def test_batches_are_the_exact_agreement_of_their_rollouts(user: UserFolder, tmp_path: Path) -> None:
    words = ("--mixes", "random,pairug", "--batches=2")
    code, said, errors = call(*command(user, tmp_path / "out", *words))
    assert code == 0, errors
    assert said.splitlines()[0].split()[:3] == ["mix", "batches", "no"]
    assert str(tmp_path / "out" / "agreement.html") in said
    found = rows(tmp_path / "out")
    assert set(found) == {(mix, batch) for mix in ("pairug", "random") for batch in (0, 1)}
    settings = load_settings(RunSettings, user.recipe, OPTIONS)
    policy = load_policy(user.model, device="cpu")
    parameters = policy.train_only(settings.policy.trainable)
    pairs = read_pairs(user.pairs)
    order = shuffled_indices(3, start=0, number=2, seed=0)
    batch = rollout_batch(
        policy,
        [pairs[order[1]]],
        settings.rollout,
        Rewards.from_settings(settings.reward),
        seed=derive_seed(0, 1),
        image_folder=user.pairs.parent,
    )
    exact = gradient_agreement(policy, batch, parameters, settings.pairgrpo)
    assert "gradient_agreement/layer_00" in exact
    assert found["pairug", 1] == pytest.approx(exact)


def test_it_resumes_and_can_be_extended(
    user: UserFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixes, "BLOCK", 2)
    words = ("--mixes", "pairug,low-similarity", "--batches=2")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*command(user, whole, *words))[0] == 0
    measured = []
    original = mixes._measured

    def stops(*given: Any) -> Any:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(given[3:5])
        return original(*given)

    with monkeypatch.context() as patched:
        patched.setattr(mixes, "_measured", stops)
        said = fails(*command(user, parts, "--mixes=pairug", "--batches=1"), code=0)
        said = fails(*command(user, parts, *words), code=130)
    assert "continues" in said
    assert measured == [("pairug", 0), ("low-similarity", 0), ("pairug", 1)]
    assert call(*command(user, parts, *words))[0] == 0
    assert rows(parts) == rows(whole)
    said = fails(*command(user, parts, *words, "--rollout.guidance=3"))
    assert "rollout.guidance was 2.0, is 3.0" in said
    assert rows(parts) == rows(whole)


def test_mistakes_are_one_sentence(user: UserFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "'pairs' is no mix; choose from pairug, retrieved" in fails(
        *command(user, out, "--mixes=pairug,pairs")
    )
    assert "the mix pairug has 3 pairs, enough for 3 batches of 1" in fails(
        *command(user, out, "--mixes=pairug", "--batches=4")
    )
    assert "makes 0 of 3 pairs" in fails(*command(user, out, "--batches=2"))
    assert "no such pair file" in fails(*command(user, out, "--data.pairs=none.jsonl"))
    assert not (out / "agreement.jsonl").exists()
