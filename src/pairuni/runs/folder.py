"""Where everything is in a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The paths inside a run's folder; none of them need exist."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings (``runs.history.describe_settings``)."""
        return self.root / "config.toml"

    @property
    def metrics(self) -> Path:
        """One line per step (``runs.metrics``)."""
        return self.root / "metrics.jsonl"

    @property
    def history(self) -> Path:
        """Settings that changed on a resume (``runs.history``)."""
        return self.root / "history.jsonl"

    @property
    def samples(self) -> Path:
        """Images of rollouts, and samples.jsonl (``runs.samples``)."""
        return self.root / "samples"

    @property
    def samples_log(self) -> Path:
        return self.samples / "samples.jsonl"

    @property
    def evaluation(self) -> Path:
        """Held-out scores before, during and after training (``runs.evaluations``)."""
        return self.root / "evaluation"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints for a resume (``training.checkpoint``, ``runs.state``)."""
        return self.root / "checkpoints"

    @property
    def trackers(self) -> Path:
        """The run's name at trackers (``trackers.services``)."""
        return self.root / "trackers.json"

    @property
    def logs(self) -> Path:
        """rank-N.log of each process, if torchrun started several."""
        return self.root / "logs"

    @property
    def final(self) -> Path:
        """The trained model; plain ``transformers`` loads it."""
        return self.root / "final"

    @property
    def summary(self) -> Path:
        """Written at the end of a run."""
        return self.root / "summary.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"


def step_name(step: int) -> str:
    """The name under which the samples and evaluations of a step are kept."""
    return f"step-{step:06d}"
