"""`pairuni.train`, `build_pairs` and `evaluate` in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pairuni
from user_folder import Brightness, Letters, UserFolder


@pytest.fixture
def user(tmp_path: Path) -> UserFolder:
    return UserFolder(tmp_path / "user")


def settings_of(user: UserFolder, **changes: Any) -> pairuni.RunSettings:
    keys = {name.replace("__", "."): value for name, value in changes.items()}
    return pairuni.load_settings(pairuni.RunSettings, user.recipe, keys)


def test_a_run_by_settings_is_the_run_of_the_command(user: UserFolder, tmp_path: Path) -> None:
    settings = settings_of(user, evaluation__every=1, evaluation__items=1, data__pairs=varied(user))
    run = pairuni.train(settings, out=tmp_path / "python")
    assert (run.folder, run.steps, run.interrupted) == (tmp_path / "python", 2, False)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert run.scores == {task: rows[-1][f"eval/{task}"] for task in ("understanding", "generation")}
    assert run.report.is_file()
    again = pairuni.train(run.folder / "config.toml", out=str(tmp_path / "again"))
    first, second = (pairuni.load_model(one.folder).module.state_dict() for one in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert run.model == tmp_path / "python" / "final"


def varied(user: UserFolder) -> Path:
    """The user's pairs with different prompts, so that one can be held out."""
    rows = [json.loads(line) for line in user.pairs.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["generate_ann"]["prompt"] = f"a {number}"
    user.pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return user.pairs


def test_a_run_resumes_and_is_not_begun_twice(user: UserFolder, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="has no run to resume"):
        pairuni.train(settings_of(user), out=out, resume=True)
    pairuni.train(settings_of(user), out=out)
    with pytest.raises(ValueError, match="already holds a run"):
        pairuni.train(settings_of(user), out=out)
    metrics = out / "metrics.jsonl"
    rows = [json.loads(line) | {"step_time": 1000.0} for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = pairuni.train(settings_of(user, pairgrpo__steps=3), out=out, resume=True)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.scores == {}
    assert json.loads((out / "summary.json").read_text())["seconds"] > 2000.0  # with the steps before


def test_rewards_as_objects(user: UserFolder, tmp_path: Path) -> None:
    seen: list[str] = []

    class Seen(Letters):
        name = "seen"

        def __call__(self, records: object, samples: list[str]) -> list[float]:
            seen.extend(samples)
            return super().__call__(records, samples)

    settings = settings_of(user, reward__generation="no_such_module:Reward", pairgrpo__steps=1)
    with pytest.raises(ValueError, match="no_such_module"):
        pairuni.train(settings, out=tmp_path / "named")
    pairuni.train(
        settings,
        out=tmp_path / "given",
        rewards=pairuni.Rewards(understanding=Seen(), generation=Brightness()),
    )
    assert len(seen) == 2


def test_no_pair_file(user: UserFolder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such pair file"):
        pairuni.train(settings_of(user, data__pairs="none.jsonl"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pairs_with_an_own_encoder_and_annotator(user: UserFolder) -> None:
    class Says:
        def caption(self, sample: Any, feedback: str | None) -> str:
            return f"caption of {sample.id}"

        def question(self, sample: Any, feedback: str | None) -> tuple[str, str]:
            return "what?", "one"

        def verify(self, quadruple: Any) -> Any:
            from pairuni.records import Verdict

            return Verdict(ok=True)

    def mean_colour(images: Any) -> Any:
        return np.array([np.asarray(image.resize((1, 1))).ravel() for image in images], dtype=np.float32)

    settings = pairuni.PairsSettings(
        understanding=user.raw / "u.jsonl",  # type: ignore[arg-type]
        generation=user.raw / "g.jsonl",  # type: ignore[arg-type]
        out=user.root / "built",
        annotator="none:None",
        clusters=1,
    )
    summary = pairuni.build_pairs(settings, annotator=Says(), encoder=mean_colour)
    pairs = pairuni.read_pairs(str(user.root / "built" / "pairs.jsonl"))
    assert summary.pairs == len(pairs) > 0
    assert {pair.understand_ann.prompt for pair in pairs} <= {f"caption of {n}" for n in range(3)} | {
        f"a red {word}" for word in ("zero", "one", "two")
    }
    with pytest.raises(ValueError, match="engine = ray"):
        pairuni.build_pairs(settings.model_copy(update={"engine": "ray"}), annotator=Says())


def test_evaluate_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no benchmark is called 'digit'; known: digits, digits-edits, pope"):
        pairuni.evaluate("tiny", "digit")
    with pytest.raises(ValueError, match=r"^item is not a setting; did you mean items"):
        pairuni.evaluate("tiny", "digits", item=3)
    with pytest.raises(ValueError, match=r"^items is 0, but must be greater than or equal to 1"):
        pairuni.evaluate("tiny", "digits", items=0)
    with pytest.raises(ValueError, match="cannot edit"):
        pairuni.evaluate("tiny", "digits-edits", items=4)
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError):
        pairuni.evaluate(Path("tiny"), "pope", data=tmp_path / "none", out=tmp_path / "out")


def test_a_loaded_policy_has_the_scores_of_its_folder(tmp_path: Path) -> None:
    policy = pairuni.load_policy("tiny", device="cpu", dtype="float32")
    named = pairuni.evaluate("tiny", "digits", items=3, device="cpu", dtype="float32")
    loaded = pairuni.evaluate(policy, "digits", items=3, out=tmp_path)
    assert [one.score for one in loaded] == [one.score for one in named]
    with torch.no_grad():
        policy.module.lm_head.weight += 1
    with pytest.raises(ValueError, match="weights"):
        pairuni.evaluate(policy, "digits", items=3, out=tmp_path)
    with pytest.raises(ValueError, match="cannot edit"):
        pairuni.evaluate(policy, "digits-edits", items=4)
