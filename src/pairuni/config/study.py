"""Settings of a study: a grid of training runs, rows times seeds, that `pairuni ablate` runs and compares."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pairuni.config.base import Settings, UserPath


class StudyRow(Settings):
    """One row of the study's table: how its runs differ from the recipe."""

    name: str = Field(min_length=1)
    """The row's name in the table."""
    train: dict[str, Any] = Field(default={})
    """Settings of training that this row changes."""
    pairs: dict[str, Any] = Field(default={})
    """Settings of the build of pairs that this row changes."""
    paper: dict[str, float] = Field(default={})
    """Scores that the paper reports for this row, by benchmark."""

    @field_validator("train", "pairs", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        return dict(_flat(value)) if isinstance(value, dict) else value


class StudySettings(Settings):
    """A study. Its rows differ in settings, and each is trained with several seeds."""

    AS_OPTIONS = False

    title: str = Field(min_length=1)
    """The table's title."""
    recipe: UserPath
    """Recipe of training that all rows share; relative to the study's file."""
    pairs: UserPath | None = None
    """Recipe of the build of pairs that all rows share, relative to the study's file; by default the pairs are the file
    that the training recipe names."""
    world: Literal["digits", "relations"] | None = None
    """Build from the raw data of a digits world, generated for each seed, instead of the inputs of ``pairs``."""
    samples: int = Field(default=1500, ge=1)
    """With ``world``: raw samples of each task."""
    seeds: int = Field(default=3, ge=1)
    """Number of seeds, 0 to seeds - 1. A seed decides a run's raw data, pairs, rollouts and held-out items."""
    default: str = Field(min_length=1)
    """Name of the row that the others are compared with."""
    rows: list[StudyRow] = Field(min_length=1)
    """The rows of the table."""

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        names = [row.name for row in self.rows]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two rows have the name {min(twice)!r}")
        if self.default not in names:
            raise ValueError(f"no row has the name {self.default!r} of the default row")
        if self.world is not None and self.pairs is None:
            raise ValueError("world needs pairs, the recipe of the build")
        if self.pairs is None and any(row.pairs for row in self.rows):
            raise ValueError("a row changes the build of pairs, but the study has no pairs recipe")
        return self


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested tables as dotted keys."""
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
