"""What is shared of a run: its final model or a checkpoint, the settings it was trained with, and its base model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pairuni.io.markdown import split_front_matter
from pairuni.io.text import read_text
from pairuni.policies.adapters import is_adapter_folder
from pairuni.policies.registry import SHIPPED, resolve
from pairuni.runs.best import best_checkpoint, run_of_best
from pairuni.runs.folder import RunFolder
from pairuni.runs.models import newest_checkpoint
from pairuni.runs.reading import read_toml
from pairuni.runs.run import Run, read_run
from pairuni.runs.state import RunState, read_run_state
from pairuni.training.checkpoint import CheckpointError, list_checkpoints, load_state, step_of

_DEEPEST = 10
"""Limit for runs that began with the model of another run."""


@dataclass(frozen=True)
class Source:
    """run: as read from its folder. weights: final/ or the folder of a checkpoint. step: its last step, if known.

    settings: those that the model was trained with. best_of: number of checkpoints from which it was chosen by its
    held-out score; None if it was not.
    """

    run: Run
    weights: Path
    step: int | None
    settings: Mapping[str, Any]
    best_of: int | None = None

    @property
    def is_final(self) -> bool:
        return self.weights == self.run.folder.final

    @property
    def is_adapter(self) -> bool:
        return self.is_final and is_adapter_folder(self.weights)


@dataclass(frozen=True)
class Base:
    """The model that training began with. name: for people; hub: its name on the hub; license: as its card says.

    earlier_run: training began with the model of another run, and this is the base of that one.
    """

    name: str
    hub: str | None = None
    license: str | None = None
    earlier_run: bool = False


def find_source(name: Path, *, unfinished: bool = False) -> Source:
    """The model that ``name`` means: a run, RUN@best, or a checkpoint inside a run.

    unfinished: accept a run that has not ended, whose newest checkpoint is then taken. Raises FileNotFoundError,
    ValueError for a run that has not ended and for a folder that is no run, CheckpointError for damaged checkpoints.
    """
    best_run = run_of_best(name)
    checkpoint = (name / "state.json").is_file()
    root = best_run or (name.resolve().parent.parent if checkpoint else name)
    run = read_run(root)
    folder = run.folder
    if not unfinished and not folder.summary.is_file():
        last = f", step {run.metrics[-1].step}" if run.metrics else ""
        raise ValueError(f"{root} is not finished{last}; resume it, or push what it has with --unfinished")
    if best_run is not None:
        best = best_checkpoint(root)
        count = len(list_checkpoints(folder.checkpoints))
        return Source(run, best.folder, best.step, _settings_at(best.folder), best_of=count)
    if checkpoint:
        return Source(run, name, step_of(name), _settings_at(name))
    if (folder.final / "config.json").is_file() or is_adapter_folder(folder.final):
        step = run.metrics[-1].step if run.metrics else None
        return Source(run, folder.final, step, _with_place(run.config, folder))
    newest = newest_checkpoint(root)
    if newest is None:
        raise ValueError(f"{root} has neither a trained model in final/ nor a checkpoint")
    return Source(run, newest, step_of(newest), _settings_at(newest))


def base_of_run(settings: Mapping[str, Any], given: str | None = None) -> Base:
    """The base model of a run's settings; of a run that continues another run, the base of that one.

    given: the hub name, if the user gives it.
    """
    if given is not None:
        return Base(given, given)
    model = settings.get("policy", {}).get("model")
    for depth in range(_DEEPEST):
        if not isinstance(model, str) or not model:
            break
        earlier = _run_holding(model)
        if earlier is None:
            return replace(_named(model), earlier_run=depth > 0)
        model = _with_place(read_toml(earlier.config), earlier).get("policy", {}).get("model")
    return Base("an unknown model")


def _settings_at(checkpoint: Path) -> Mapping[str, Any]:
    """Those of a checkpoint. A model in a folder has its absolute path: a relative one may look like a hub name."""
    state = _state_at(checkpoint)
    return _with_model(state.settings, state.places.get("policy.model"))


def _state_at(checkpoint: Path) -> RunState:
    return read_run_state(load_state(checkpoint)[1], checkpoint)


def _with_place(settings: Mapping[str, Any], run: RunFolder) -> Mapping[str, Any]:
    """Settings of a run with the model's absolute path, if its newest checkpoint has that."""
    checkpoints = list_checkpoints(run.checkpoints)
    try:
        state = _state_at(checkpoints[-1]) if checkpoints else None
    except CheckpointError:
        state = None
    return settings if state is None else _with_model(settings, state.places.get("policy.model"))


def _with_model(settings: Mapping[str, Any], model: str | None) -> Mapping[str, Any]:
    policy = settings.get("policy")
    if model is None or not isinstance(policy, Mapping):
        return settings
    return {**settings, "policy": {**policy, "model": model}}


def _run_holding(model: str) -> RunFolder | None:
    """The run's folder if ``model`` is a run, RUN@best, or final/ or a checkpoint inside a run."""
    if model in SHIPPED:
        return None
    folder = run_of_best(model) or Path(model).expanduser()
    for place in (folder, folder.parent, folder.parent.parent):
        if (run := RunFolder(place)).config.is_file() and (place == folder or _is_model_of(folder, run)):
            return run
    return None


def _is_model_of(folder: Path, run: RunFolder) -> bool:
    return folder == run.final or folder.parent in (run.checkpoints, run.root / "exported")


def _named(model: str) -> Base:
    if model in SHIPPED:
        return Base(f"{model}, the model that pairuni contains", license=_license(resolve(model)))
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Base(folder.resolve().name, license=_license(folder))
    if re.fullmatch(r"[\w][\w.-]*/[\w.-]+", model, re.ASCII):
        return Base(model, model)
    return Base(folder.name)


def _license(folder: Path) -> str | None:
    """The licence in the card of a model's folder."""
    card = folder / "README.md"
    front = split_front_matter(read_text(card))[0] if card.is_file() else ""
    found = re.search(r"^license:[ ]*([\w.-]+)[ ]*$", front, re.M)
    return found[1] if found else None
