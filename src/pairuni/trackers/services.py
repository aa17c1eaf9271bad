"""The trackers that ``logging.to`` names."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pairuni.config import RunSettings
from pairuni.config.run import TrackerName
from pairuni.io.files import write_text
from pairuni.runs.folder import RunFolder
from pairuni.runs.reading import read_json
from pairuni.trackers.tracker import Picture, Tracker
from pairuni.trackers.trackers import Trackers


def trackers_of(settings: RunSettings, run: RunFolder) -> Trackers:
    """The trackers of a run; close them when it ends. Only rank 0 of several processes needs them."""
    trackers = [_SERVICES[name](settings, run) for name in dict.fromkeys(settings.logging.to)]
    return Trackers(run, trackers)


class TensorBoardTracker:
    """Event files in the run's folder, written anew when a run resumes: events cannot be taken out of them."""

    name = "tensorboard"

    def __init__(self, settings: RunSettings, run: RunFolder) -> None:
        self._folder = run.root / "tensorboard"

    def begin(self) -> int:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = SummaryWriter(str(self._folder))
        return -1

    def log(self, metrics: Mapping[str, float], pictures: Sequence[Picture], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        for picture in pictures:
            self._writer.add_image(picture.name, np.asarray(picture.image), step, dataformats="HWC")
            self._writer.add_text(picture.name, picture.caption.replace("\n", "  \n"), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbTracker:
    """A run of wandb. Online, a resumed run continues after the last step that the server has.

    Offline, a resumed run is written anew in its folder: wandb does not resume there, and loses what a killed process
    has not written.
    """

    name = "wandb"

    def __init__(self, settings: RunSettings, run: RunFolder) -> None:
        self._settings, self._folder = settings, run

    def begin(self) -> int:
        import wandb

        name = run_id(self._folder)
        for part in (self._folder.root / "wandb").glob(f"offline-run-*-{name}"):
            shutil.rmtree(part, ignore_errors=True)
        self._run = wandb.init(
            project=self._settings.logging.project,
            id=name,
            name=self._folder.root.resolve().name,
            dir=str(self._folder.root),
            config=self._settings.model_dump(mode="json"),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        return int(self._run.step) - 1 if self._run.resumed else -1

    def log(self, metrics: Mapping[str, float], pictures: Sequence[Picture], step: int) -> None:
        import wandb

        images = {one.name: wandb.Image(one.image, caption=one.caption) for one in pictures}
        self._run.log({**metrics, **images}, step=step)

    def close(self) -> None:
        self._run.finish()


class TrackioTracker:
    """A run of trackio, which a resumed run continues after the last step that trackio has."""

    name = "trackio"

    def __init__(self, settings: RunSettings, run: RunFolder) -> None:
        self._settings, self._folder = settings, run

    def begin(self) -> int:
        import trackio

        self._run = trackio.init(
            project=self._settings.logging.project,
            name=f"{self._folder.root.resolve().name}-{run_id(self._folder)}",
            config=self._settings.model_dump(mode="json"),
            resume="allow",
            embed=False,
        )
        return int(self._run._next_step) - 1

    def log(self, metrics: Mapping[str, float], pictures: Sequence[Picture], step: int) -> None:
        import trackio

        images = {one.name: trackio.Image(one.image, caption=one.caption) for one in pictures}
        self._run.log({**metrics, **images}, step=step)

    def close(self) -> None:
        self._run.finish()


_SERVICES: dict[TrackerName, Callable[[RunSettings, RunFolder], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}


def run_id(run: RunFolder) -> str:
    """The run's name at services, made once and kept in its folder."""
    known = read_json(run.trackers).get("id")
    if isinstance(known, str):
        return known
    made = uuid.uuid4().hex[:8]
    write_text(run.trackers, json.dumps({"id": made}) + "\n")
    return made
