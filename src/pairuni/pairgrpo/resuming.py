"""What a checkpoint says of its run, and what a resume compares with it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairuni.config import RunSettings, to_toml
from pairuni.records import UGPair
from pairuni.runs.run_state import RunState, read_run_state
from pairuni.training.checkpoint import CheckpointError, list_checkpoints, load_state
from pairuni.training.tracking import MetricsLog

logger = logging.getLogger("pairuni")

HISTORY = "history.jsonl"
"""Changes of settings in a run's folder, each with the first step that it applies to; absent without changes."""


def digest_of_pairs(pairs: Sequence[UGPair]) -> str:
    """SHA-256 of the pairs in their order."""
    content = "\n".join(pair.model_dump_json() for pair in pairs)
    return hashlib.sha256(content.encode()).hexdigest()


def check_before_loading(out: Path, settings: RunSettings) -> None:
    """Compare settings with the newest checkpoint in ``out``, as far as that needs neither data nor weights.

    Raises ValueError as ``refuse_another_run`` does; a damaged checkpoint is left to the trainer.
    """
    for folder in reversed(list_checkpoints(out / "checkpoints")):
        try:
            step, state = load_state(folder)
            saved = read_run_state(state, folder)
        except CheckpointError:
            continue
        _refuse_settings(out, step, saved, settings)
        return


def refuse_another_run(out: Path, step: int, saved: RunState, now: RunState) -> None:
    """Raise ValueError naming the first thing that makes ``now`` another run than the one that was saved."""
    _refuse_settings(out, step, saved, RunSettings.model_validate(now.settings))
    cannot = f"cannot resume in {out}"
    if saved.pairs_sha256 != now.pairs_sha256:
        choice = [
            f"{key} was {_shown(was)}, is {_shown(new)}"
            for key, (was, new) in settings_changes(saved.settings, now.settings).items()
            if key.startswith(("data.", "evaluation."))
        ]
        reason = f" ({'; '.join(choice)})" if choice else ": the content of the pair file has changed"
        raise ValueError(f"{cannot}: the pairs differ from those of its checkpoint{reason}")
    if saved.pictures_sha256 != now.pictures_sha256:
        raise ValueError(
            f"{cannot}: the images beside the pair file differ from those that its checkpoint was trained on"
        )
    if saved.dtype != now.dtype:
        raise ValueError(
            f"{cannot}: its weights are held in {saved.dtype}, this policy's in {now.dtype}; "
            f"resume with --policy.dtype {saved.dtype}"
        )
    if saved.policy_sha256 != now.policy_sha256:
        was, new = (state.settings["policy"]["model"] for state in (saved, now))
        named = f"{new} instead of {was}" if was != new else f"the weights of {new} have changed"
        raise ValueError(f"{cannot}: this is another policy than the one that it trains ({named})")


def _refuse_settings(out: Path, step: int, saved: RunState, settings: RunSettings) -> None:
    grpo = settings.pairgrpo
    cannot = f"cannot resume in {out}"
    if saved.seed != settings.seed:
        raise ValueError(
            f"{cannot}: the seed differs from that of its checkpoint; it was {saved.seed}, is {settings.seed}"
        )
    pairs = grpo.pairs_per_batch * grpo.batches_per_step
    if saved.pairs_per_update != pairs:
        raise ValueError(
            f"{cannot}: the number of pairs a step differs from that of its checkpoint; it was "
            f"{saved.pairs_per_update}, is {pairs} (pairs_per_batch times batches_per_step)"
        )
    trained = saved.settings.get("policy", {}).get("trainable")
    if sorted(trained or []) != sorted(settings.policy.trainable):
        raise ValueError(
            f"{cannot}: other parts train than in its checkpoint; policy.trainable was {_shown(trained)}, "
            f"is {_shown(settings.policy.trainable)}"
        )
    if step > grpo.steps:
        raise ValueError(
            f"{cannot}: it is at step {step} already, beyond the {grpo.steps} that pairgrpo.steps asks for; "
            f"pairuni export makes a model of an earlier checkpoint where one is kept"
        )


def settings_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with the old and the new one; keys that only one of them knows are left out."""
    before, after = _flat(old), _flat(new)
    return {key: (before[key], after[key]) for key in after if key in before and before[key] != after[key]}


def record_changes(out: Path, step: int, saved: RunState, now: RunState) -> None:
    """Say and write down what is other than it was up to ``step``; what was written of later steps is dropped."""
    log = MetricsLog(out / HISTORY)
    log.rewind(step)
    changes = settings_changes(saved.settings, now.settings)
    for key, (was, new) in changes.items():
        logger.warning("from step %d on: %s is %s, was %s", step + 1, key, _shown(new), _shown(was))
    if changes:
        changed = {key: {"from": was, "to": new} for key, (was, new) in changes.items()}
        log.append({"step": step + 1, "at": time.strftime("%Y-%m-%d %H:%M:%S"), "changed": changed})
    _drop_empty(log.path)


def forget_changes(out: Path) -> None:
    """For a run that starts over."""
    (out / HISTORY).unlink(missing_ok=True)


def describe_settings(out: Path, settings: RunSettings) -> str:
    """config.toml of a run: its settings now, and above them as comments what was other in earlier steps."""
    lines = []
    for row in MetricsLog(out / HISTORY).rows():
        for key, values in row.get("changed", {}).items():
            lines.append(f"# before step {row['step']}: {key} = {_shown(values['from'])}\n")
    if lines:
        lines.insert(0, "# these settings are those of the last steps\n")
        lines.append("\n")
    return "".join(lines) + to_toml(settings)


def _drop_empty(path: Path) -> None:
    if path.exists() and not path.stat().st_size:
        path.unlink()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value)
