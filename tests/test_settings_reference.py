"""Settings as readers see them: descriptions, the reference pages, and --help of commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest
from pydantic import Field
from typer.testing import CliRunner

from pairuni import config
from pairuni.cli.app import app
from pairuni.config import PairsSettings, RunSettings, Settings, StudySettings, setting_keys
from pairuni.config.reference import Group, Setting, describe, without_paper
from tools import make_settings_reference

CLASSES = [
    one for one in vars(config).values() if inspect.isclass(one) and issubclass(one, Settings)
]  # fmt: skip


def settings_of(cls: type[Settings]) -> dict[str, Setting]:
    return {one.key: one for group in describe(cls) for one in group.settings}


class Place(Settings):
    """A place."""

    city: str
    """Its city."""


class Trip(Settings):
    """A trip. Its places are visited in order."""

    days: int | None = Field(default=None, ge=1, lt=30)
    """Length of the trip, of ``days`` that are full (paper: 7; 3 by train)."""
    pace: float | None = Field(default=1.0, gt=0)
    """Pace."""
    start: Place
    end: Place | None = None
    stops: list[Place] = Field(default=[])


def test_settings_are_described_in_groups() -> None:
    top, start, end, stops = describe(Trip)
    assert top.about == "A trip. Its places are visited in order."
    days = "Length of the trip, of `days` that are full."
    assert top.settings == (
        Setting("days", days, False, None, "integer >= 1 and < 30", "7; 3 by train"),
        Setting("pace", "Pace.", False, 1.0, "number > 0, none", ""),
    )
    assert start == Group(
        "start", False, False, "", Place, (Setting("start.city", "Its city.", True, None, "string", ""),)
    )
    assert (end.table, end.optional) == ("end", True)
    assert (stops.table, stops.several, stops.settings[0].key) == ("stops", True, "stops.city")


@pytest.mark.parametrize("cls", [RunSettings, PairsSettings], ids=lambda cls: cls.__name__)
def test_every_key_is_described(cls: type[Settings]) -> None:
    missing = set(setting_keys(cls)) - set(settings_of(cls))
    assert missing <= {"policy.lora"}  # a table


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_setting_has_a_docstring(cls: type[Settings]) -> None:
    for group in describe(cls):
        assert group.about.endswith("."), (
            f"{group.declared_by.__name__} has no docstring that ends with a period"
        )
        for one in group.settings:
            where = f"{cls.__name__}.{one.key}"
            assert one.meaning.endswith((".", '"')), f"{where} has no docstring"
            assert "paper:" not in one.meaning, f"{where}: end the docstring with (paper: VALUE)."


def test_the_papers_value_stands_at_the_end() -> None:
    assert without_paper("Rate (paper: 1e-6).") == ("Rate.", "1e-6")
    assert without_paper("Rate (GenEval: 0.3).") == ("Rate (GenEval: 0.3).", "")
    assert without_paper("Rate (paper: 1); or more.") == ("Rate (paper: 1); or more.", "")


def test_the_papers_values() -> None:
    """Those that the paper states for training and for the selection of pairs, and the defaults that equal them."""
    train, pairs = settings_of(RunSettings), settings_of(PairsSettings)
    stated = {
        key: one.paper for key, one in (train | pairs).items() if not one.paper.startswith("not stated")
    }
    numbers = {
        "pairgrpo.learning_rate": 1e-6,
        "rollout.temperature": 1.0,
        "rollout.guidance": 5.0,
        "pairgrpo.beta": 0.0,
        "pairgrpo.understanding_weight": 1.0,
        "pairgrpo.generation_weight": 1.0,
        "threshold": 0.6,
    }
    for key, value in numbers.items():
        assert float(stated[key]) == value == (train | pairs)[key].default, key
    words = {
        "pairgrpo.steps": "at most 1200",
        "pairgrpo.pairs_per_batch": "16 on 8 GPUs, 2 on each",
        "rollout.generation": "8 for Janus-Pro-1B, 4 for 7B, 2 for Lumina-DiMOO",
        "pairgrpo.pair_weight": "sqrt; the others are its ablations",
        "policy.image_steps": "35",
        "matching": "sequential",
        "data.budget": "all 16,320",
    }
    assert words.items() <= stated.items()
    assert train["pairgrpo.clip_low"].paper.startswith("not stated")


def test_the_pages_hold_every_setting_once() -> None:
    pages = make_settings_reference.pages()
    for page, cls in (
        ("settings-training.md", RunSettings),
        ("settings-pairs.md", PairsSettings),
        ("settings-studies.md", StudySettings),
    ):
        names = [
            key.rpartition(".")[2] for group in describe(cls) for key in (one.key for one in group.settings)
        ]
        shown = [line.split("`")[1] for line in pages[page].splitlines() if line.startswith("| `")]
        assert shown == names
    rate = "| `learning_rate` | AdamW's learning rate after warm-up. | `1e-06` | number > 0 | 1e-6 |"
    assert rate in pages["settings-training.md"]
    evaluation = pages["settings-evaluation.md"]
    assert evaluation.count("| `limit` |") == 1
    assert "## WISE\n\nOf the task `wise`. A judge" in evaluation


def help_of(*words: str) -> Iterator[str]:
    ended = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
    assert ended.exit_code == 0, ended.output
    yield from ended.output.splitlines()


@pytest.mark.parametrize(
    ("words", "cls"),
    [("train", RunSettings), ("pairs build", PairsSettings), ("eval imgedit", config.ImgEditSettings)],
)
def test_help_lists_all_settings_by_group(words: str, cls: type[Settings]) -> None:
    lines = list(help_of(*words.split()))
    assert max(map(len, lines)) <= 80
    starts = {line.split()[0]: number for number, line in enumerate(lines) if line.startswith("  --")}
    shown = " ".join(" ".join(lines).split())
    for group in describe(cls):
        places = [starts[f"--{one.key.replace('_', '-')}"] for one in group.settings]
        assert places == sorted(places)
        for one in group.settings:
            assert one.meaning in shown
    assert "--pairgrpo.pair-weight" not in starts or (
        "w_p of a retrieved pair, from its similarity. [sqrt, linear, none; default and paper: sqrt]" in shown
    )


def test_help_of_a_table_and_of_a_file() -> None:
    reward = list(help_of("serve-reward"))
    assert any(line.startswith("  --reward.hpsv2.version") for line in reward)
    assert not any(line.startswith("  --pairgrpo") for line in reward)
    study = list(help_of("ablate"))
    assert any(line.startswith("[[rows]]") for line in study)
    assert any(line.startswith("  recipe ") for line in study)
    assert any(line.startswith("  --seeds") for line in study)  # an option, beside the key of the same name
