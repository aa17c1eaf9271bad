import subprocess
import sys
from pathlib import Path

import pytest

from pairuni.config import RunSettings, Settings, load_settings, setting_keys, to_toml

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(
        'seed = 3\n[policy]\nmodel = "tiny"\n[data]\npairs = "a/b.jsonl"\n[pairgrpo]\nlearning-rate = 2e-6\n'
    )
    return path


def message(recipe: Path | None, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:
        load_settings(RunSettings, recipe, overrides)
    return str(caught.value)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    return path


def test_the_papers_values_are_the_defaults(recipe: Path) -> None:
    settings = load_settings(RunSettings, recipe)
    assert (settings.seed, settings.data.pairs) == (3, Path("a/b.jsonl"))
    assert settings.pairgrpo.learning_rate == 2e-6  # a key with a hyphen
    defaults = load_settings(RunSettings, None, ["--policy.model", "m", "--data.pairs", "x"])
    assert (defaults.rollout.understanding, defaults.rollout.guidance) == (8, 5.0)
    assert (defaults.pairgrpo.learning_rate, defaults.pairgrpo.beta) == (1e-6, 0.0)
    assert (defaults.pairgrpo.pairs_per_batch, defaults.pairgrpo.steps) == (2, 1200)
    assert (defaults.reward.understanding, defaults.reward.generation) == ("accuracy", "hpsv2")


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_loads(name: str) -> None:
    settings = load_settings(RunSettings, RECIPES / f"{name}.toml")
    if name.startswith("janus"):
        assert settings.rollout.generation == (8 if "1b" in name else 4)
        assert (settings.reward.generation, settings.reward.hpsv2.version) == ("hpsv2", "2.1")
        assert settings.pairgrpo.pairs_per_batch * settings.pairgrpo.batches_per_step == 16
        assert (settings.policy.lora is not None) == name.endswith("lora")


def test_the_demo_trains_by_its_recipe() -> None:
    from pairuni.demo import demo_settings

    settings = load_settings(RunSettings, RECIPES / "digits.toml")
    assert settings == demo_settings(settings.seed, settings.data.pairs)


def test_no_recipe_is_untested() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} >= {"janus_pro_1b", "janus_pro_7b_lora", "digits"}
    for path in RECIPES.glob("janus*.toml"):
        load_settings(RunSettings, path)


def test_overrides(recipe: Path) -> None:
    words = ["--pairgrpo.learning-rate", "3e-6", "--pairgrpo.pair_weight=linear", "--data.budget", "12"]
    words += ["--policy.trainable", "language_model,aligner", "--policy.device", "0", "--seed=9"]
    settings = load_settings(RunSettings, recipe, words)
    assert settings.pairgrpo.learning_rate == 3e-6
    assert settings.pairgrpo.pair_weight == "linear"
    assert settings.data.budget == 12
    assert settings.policy.trainable == ["language_model", "aligner"]
    assert settings.policy.device == "0"  # a string field keeps a number's text
    assert settings.seed == 9
    listed = load_settings(RunSettings, recipe, ["--policy.trainable", '["aligner"]'])
    assert listed.policy.trainable == ["aligner"]


def test_none_undoes_a_recipe(tmp_path: Path) -> None:
    path = written(tmp_path, 'policy.model = "m"\n[data]\npairs = "x"\nbudget = 5\n')
    assert load_settings(RunSettings, path).data.budget == 5
    assert load_settings(RunSettings, path, ["--data.budget", "none"]).data.budget is None


def test_round_trip(recipe: Path, tmp_path: Path) -> None:
    words = [
        "--data.pairs",
        'odd "name" é\\😀.jsonl',
        "--pairgrpo.micro-batch-tokens",
        "4000",
        "--pairgrpo.beta",
        "1e-7",
    ]
    settings = load_settings(RunSettings, recipe, words)
    path = tmp_path / "config.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    assert load_settings(RunSettings, path) == settings


def test_a_path_may_begin_at_home(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    settings = load_settings(
        RunSettings, recipe, {"data.pairs": "~/pairs.jsonl", "evaluation.pairs": "a/~/b"}
    )
    assert (settings.data.pairs, settings.evaluation.pairs) == (Path("/home/ada/pairs.jsonl"), Path("a/~/b"))


def test_a_recipe_of_another_system(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "from notepad é.toml"
    path.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes().replace(b"\n", b"\r\n"))
    assert load_settings(RunSettings, path) == load_settings(RunSettings, recipe)
    path.write_bytes(recipe.read_text().encode("utf-16"))
    assert message(path) == f"{path} is not valid TOML: is not UTF-8 text (byte 1)"


def test_a_unified_reward_needs_as_many_answers_as_images(recipe: Path) -> None:
    words = ["--pairgrpo.unified-reward", "0.8"]
    assert load_settings(RunSettings, recipe, words).pairgrpo.unified_reward == 0.8
    said = message(recipe, *words, "--rollout.generation", "4")
    assert said.startswith(f"{recipe}: pairgrpo.unified_reward")
    assert "rollout.understanding is 8, rollout.generation 4" in said
    assert "reward.normalise" in message(
        None, *words, "--policy.model=m", "--data.pairs=x", "--reward.normalise=each"
    )


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("--pairgrpo.unified-reward=0.8", "pairgrpo.unified_reward"),
        ("--pairgrpo.generation-weight=0", "pairgrpo.generation_weight"),
    ],
)
def test_alternating_tasks_need_both_and_no_unified_reward(recipe: Path, word: str, named: str) -> None:
    words = ["--pairgrpo.tasks", "alternating"]
    assert load_settings(RunSettings, recipe, words).pairgrpo.tasks == "alternating"
    said = message(recipe, *words, word)
    assert named in said
    assert "alternating" in said


@pytest.mark.parametrize("tokens", ["4000", "auto", "none"])
def test_micro_batch_tokens(recipe: Path, tokens: str, tmp_path: Path) -> None:
    settings = load_settings(RunSettings, recipe, ["--pairgrpo.micro-batch-tokens", tokens])
    expected = {"4000": 4000, "auto": "auto", "none": None}
    assert settings.pairgrpo.micro_batch_tokens == expected[tokens]
    assert load_settings(RunSettings, written(tmp_path, to_toml(settings))) == settings


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--pairgrpo.learning-rat", "1"], "did you mean --pairgrpo.learning-rate?"),
        (["--learning-rate", "1"], "did you mean --pairgrpo.learning-rate?"),
        (["--lr", "1e-6"], "did you mean --pairgrpo.learning-rate?"),
        (["--steps", "3"], "did you mean --pairgrpo.steps?"),
        (["--batch-size", "3"], "did you mean --pairgrpo.pairs-per-batch?"),
        (["--pairgrpo.lr", "1e-6"], "did you mean --pairgrpo.learning-rate?"),
        (["--model", "x"], "--policy.model"),
        (["--rollot.temprature", "1"], "did you mean --rollout.temperature?"),
        (["--zzz", "1"], "known: seed, policy, data, rollout, reward"),
        (["--pairgrpo.steps", "many"], "--pairgrpo.steps is 'many', but must be a whole number"),
        (["--pairgrpo.steps", "1.5"], "--pairgrpo.steps is 1.5, but must be a whole number"),
        (["--pairgrpo.steps", "true"], "--pairgrpo.steps is True, but must be a whole number"),
        (
            ["--pairgrpo.micro-batch-tokens", "0"],
            "--pairgrpo.micro-batch-tokens is 0, but must be a whole number of at least 1, or auto",
        ),
        (
            ["--pairgrpo.micro-batch-tokens", "many"],
            "is 'many', but must be a whole number of at least 1, or",
        ),
        (["--pairgrpo.micro-batch-tokens", "true"], "is True, but must be a whole number of at least 1, or"),
        (["--pairgrpo.steps", "0"], "--pairgrpo.steps is 0, but must be greater than or equal to 1"),
        (["--rollout.understanding", "1"], "is 1, but must be greater than or equal to 2"),
        (["--rollout.temperature", "0"], "must be greater than 0"),
        (["--rollout.guidance", "0.5"], "must be greater than or equal to 1"),
        (["--pairgrpo.clip-low", "1"], "--pairgrpo.clip-low is 1, but must be less than 1"),
        (["--pairgrpo.epochs", "1e308"], "must be less than or equal to 1000000000"),
        (["--pairgrpo.beta", "nan"], "must be a finite number"),
        (["--data.pairing", "pairs"], "is 'pairs', but must be one of 'pairug', 'random', 'unpaired'"),
        (["--policy.trainable", "[]"], "must not be empty"),
        (["--seed"], "--seed needs a value"),
        (["seed", "1"], "'seed' is not a setting"),
    ],
)
def test_bad_overrides(recipe: Path, words: list[str], expected: str) -> None:
    said = message(recipe, *words)
    assert expected in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed = ", "bad.toml is not valid TOML"),
        (
            '[data]\npairs = "x"\n[pairgrpo]\nsteps = "8"\n',
            "bad.toml: pairgrpo.steps is '8', but must be a whole",
        ),
        (
            '[data]\npairs = "x"\nshuffle = true\n',
            "bad.toml: data.shuffle is not a setting; known: data.pairs",
        ),
        ("[data]\npairs = 3\n", "bad.toml: data.pairs is 3, but must be a path"),
        ('policy = "tiny"\n[data]\npairs = "x"\n', "bad.toml: policy is 'tiny', but must be a table"),
        ("seed = 1\n", "data.pairs is required; set it in the recipe or with --data.pairs VALUE"),
        ("seed = 1\n", "policy.model is required; set it in the recipe or with --policy.model VALUE"),
        (
            '[policy]\ndtype = "auto"\n',
            "policy.model is required; set it in the recipe or with --policy.model VALUE",
        ),
        (
            '[data]\npairs = "x"\n[policy]\ntrainable = ["a", 2]\n',
            "bad.toml: policy.trainable is 2, but must be a string",
        ),
    ],
)
def test_bad_recipes(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in message(written(tmp_path, text))


def test_every_mistake_is_told(tmp_path: Path) -> None:
    said = message(
        written(tmp_path, 'seed = -1\npolicy.model = "m"\n[data]\npairs = "x"\n[pairgrpo]\nstep = 3\n')
    )
    assert len(said.splitlines()) == 2


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such recipe"):
        load_settings(RunSettings, tmp_path / "none.toml")


def test_settings_are_frozen_and_described(recipe: Path) -> None:
    settings = load_settings(RunSettings, recipe)
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1  # type: ignore[misc]
    sections: list[type[Settings]] = [RunSettings, *(type(v) for _, v in settings if isinstance(v, Settings))]
    for section in sections[1:]:
        assert all(field.description for field in section.model_fields.values()), section
    assert "pairgrpo.std_eps" in setting_keys(RunSettings)


def test_imports_no_torch() -> None:
    code = "import sys, pairuni.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
