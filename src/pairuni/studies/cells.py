"""The cells of a study: the settings of each run, and what runs of equal settings share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pairuni.config import PairsSettings, RunSettings, StudyRow, StudySettings, load_settings
from pairuni.config.toml import toml_value
from pairuni.io.files import digest_of_file
from pairuni.pairug.dataset.store import PAIRS, check_pair_file

_DIGITS = 12
"""Hexadecimal digits of a key."""
NO_INFLUENCE = ("checkpoint", "logging", "distributed")
"""Sections of a run's settings that do not change what it trains.

Keys leave out defaults too, so that they stay the same when settings are added.
"""


_LATER = {"top_k", "top_p"}
"""Settings of rollouts that came later; keys of the scores before training leave out their defaults."""


@dataclass(frozen=True)
class DataPlan:
    """The pairs of a cell, built for it. world: the raw data is written first, ``samples`` of each task."""

    build: PairsSettings
    world: str | None
    samples: int

    @cached_property
    def key(self) -> str:
        left_out = {"out", "engine", "workers", "worker_gpus"}
        if self.world is not None:
            left_out |= {"understanding", "generation"}
        settings = self.build.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        return _key({"build": settings, "world": self.world, "samples": self.samples if self.world else 0})


@dataclass(frozen=True)
class Cell:
    """One run of a study. settings: as trained, evaluated once at the end; data: None for pairs that exist."""

    row: StudyRow
    seed: int
    settings: RunSettings
    data: DataPlan | None

    @cached_property
    def key(self) -> str:
        """Runs with the same key train the same, in whichever study or row they are."""
        settings = self.settings.model_dump(mode="json", exclude=set(NO_INFLUENCE), exclude_defaults=True)
        settings["data"]["pairs"] = self._pairs_key
        return _key(settings)

    @cached_property
    def base_key(self) -> str:
        """Cells with the same key have the same scores before training."""
        whole = self.settings.model_dump(mode="json")
        decisive = {name: whole[name] for name in ("seed", "policy", "rollout", "reward", "evaluation")}
        for name in self.settings.policy.UPDATES_ONLY:
            del decisive["policy"][name]
        del decisive["evaluation"]["every"]
        del decisive["rollout"]["resample"]
        for name in _LATER - self.settings.rollout.model_dump(exclude_defaults=True).keys():
            del decisive["rollout"][name]
        evaluation = self.settings.evaluation
        if evaluation.task == "pairs":
            decisive["pairs"] = self._pairs_key if evaluation.pairs is None else str(evaluation.pairs)
        return _key(decisive)

    @cached_property
    def _pairs_key(self) -> str:
        if self.data is not None:
            return self.data.key
        check_pair_file(self.settings.data.pairs)
        return digest_of_file(self.settings.data.pairs)


def cells_of(
    study: StudySettings, folder: Path, out: Path, overrides: Sequence[str] = (), seeds: int | None = None
) -> list[Cell]:
    """The cells of a study by seed, then by row.

    folder: that of the study's file. out: where runs and pairs are kept. overrides: dotted settings of training for
    all rows, before those of the row. Raises ValueError naming a row whose settings are wrong.
    """
    return [
        _cell(study, row, seed, folder, out, overrides)
        for seed in range(study.seeds if seeds is None else seeds)
        for row in study.rows
    ]


def _cell(
    study: StudySettings, row: StudyRow, seed: int, folder: Path, out: Path, overrides: Sequence[str]
) -> Cell:
    try:
        data = _data(study, row, seed, folder)
        words = [*overrides, *_words(row.train), f"--seed={seed}"]
        if data is not None:
            words.append(f"--data.pairs={out / 'data' / data.key / PAIRS}")
        settings = load_settings(RunSettings, folder / study.recipe, words)
        if settings.pairgrpo.epochs is not None:
            raise ValueError(
                "a study compares runs by their steps; set pairgrpo.steps instead of pairgrpo.epochs"
            )
    except ValueError as error:
        raise ValueError(f"row {row.name!r}: {error}") from None
    # an evaluation at the end, and held-out pairs that no row trains on
    evaluation = settings.evaluation.model_copy(update={"every": settings.pairgrpo.steps})
    return Cell(row, seed, settings.model_copy(update={"evaluation": evaluation}), data)


def _data(study: StudySettings, row: StudyRow, seed: int, folder: Path) -> DataPlan | None:
    if study.pairs is None:
        return None
    words = [*_words(row.pairs), f"--seed={seed}", "--out=pairs"]
    if study.world is not None:
        words += ["--understanding=world", "--generation=world"]
    build = load_settings(PairsSettings, folder / study.pairs, words)
    return DataPlan(build, study.world, study.samples)


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options."""
    return [
        f"--{key}={value if isinstance(value, str) else toml_value(value)}" for key, value in settings.items()
    ]


def _key(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_DIGITS]
