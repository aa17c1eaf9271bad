"""Commands whose options are a settings class."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from pairuni.cli.options import settings_command
from pairuni.config import Settings, UserPath


class Job(Settings):
    name: str
    """Name of the job."""
    inputs: list[UserPath] = Field(default=[])
    """Files to read."""
    max_tries: int = Field(default=3, ge=1, le=9)
    """Tries before giving up."""
    share: float | None = Field(default=None, ge=0)
    """Share of the inputs."""
    strict: bool = False
    """Stop at the first fault."""


class Runs:
    """An application of one command, which keeps what it was called with."""

    def __init__(self, **declared: Any) -> None:
        self.app, self.calls = typer.Typer(rich_markup_mode=None), list[tuple[Job, bool]]()
        self.app.callback()(lambda: None)

        @settings_command(self.app, Job, "run", **declared)
        def run(
            job: Job, *, dry_run: Annotated[bool, typer.Option("--dry-run", help="Only plan.")] = False
        ) -> None:
            """Run a job."""
            self.calls.append((job, dry_run))

    def __call__(self, *words: str | Path) -> tuple[int, str]:
        ended = CliRunner().invoke(self.app, ["run", *map(str, words)])
        return (
            ended.exit_code,
            ended.output if ended.exception is None else f"{ended.output}{ended.exception}",
        )


def test_options_override_the_recipe_and_the_recipe_overrides_defaults(tmp_path: Path) -> None:
    recipe = tmp_path / "job.toml"
    recipe.write_text('name = "nightly"\nmax-tries = 5\n')
    runs = Runs(flags={"max_tries": ("-t", "--max-tries")})
    assert runs(recipe)[0] == 0
    assert runs(recipe, "-t", "3", "--strict", "--share", "1e-7", "--dry-run")[0] == 0
    assert runs.calls == [
        (Job(name="nightly", max_tries=5), False),
        (Job(name="nightly", max_tries=3, share=1e-7, strict=True), True),  # 3 is the default, but was given
    ]


def test_fields_by_position(tmp_path: Path) -> None:
    runs = Runs(recipe=False, arguments=("name", "inputs"))
    assert runs("a=b", "x, y.txt", 'quoted "z"\\é\U0001f600', "--max-tries", "9")[0] == 0
    inputs = [Path("x, y.txt"), Path('quoted "z"\\é\U0001f600')]
    assert runs.calls == [(Job(name="a=b", inputs=inputs, max_tries=9), False)]


@pytest.mark.parametrize(
    ("words", "code", "fact"),
    [
        (("--max-tries", "0"), 2, "--max-tries"),
        (("--max-tries", "10"), 2, "--max-tries"),
        (("--share", "much"), 2, "--share"),
        (("--tries", "1"), 2, "--tries"),
        ((), 1, "name"),  # neither in a recipe nor on the command line
        (("none.toml",), 1, "none.toml"),
        (("--share", "inf", "--name", "n"), 1, "--share"),
    ],
)
def test_mistakes_name_the_option(words: tuple[str, ...], code: int, fact: str) -> None:
    runs = Runs()
    found, said = runs(*words)
    assert (found, fact in said) == (code, True), said
    assert runs.calls == []


def test_without_a_recipe_required_fields_are_usage() -> None:
    assert Runs(recipe=False)()[0] == 2


def test_help_is_the_docstrings_of_the_fields() -> None:
    code, said = Runs()("--help")
    assert code == 0
    shown = " ".join(said.split())
    assert shown.index("Only plan.") < shown.index("Settings, in the recipe or as options.")
    for text in (
        "Run a job.",
        "--name Name of the job. [required]",
        "--max-tries Tries before giving up. [>= 1 and <= 9; default: 3]",
        "--share Share of the inputs. --strict Stop at the first fault. [default: false]",
    ):
        assert text in shown, said


def test_help_spells_options_as_the_command_does() -> None:
    assert "-t, --max-tries Tries" in " ".join(
        Runs(flags={"max_tries": ("-t", "--max-tries")})("--help")[1].split()
    )
    positional = " ".join(Runs(arguments=("name",))("--help")[1].split())
    assert positional.count("Name of the job.") == 1
