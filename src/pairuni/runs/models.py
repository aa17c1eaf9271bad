"""Models out of runs: the folder of a run or of one of its checkpoints, wherever a model is asked for."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.registry import SHIPPED, load_policy, resolve
from pairuni.runs.run_state import read_run_state, settings_of
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    load_checkpoint,
    load_newest,
)
from pairuni.training.digests import digest_of_tensors

logger = logging.getLogger("pairuni")

FINAL, CHECKPOINTS = "final", "checkpoints"


def load_model(
    name: str | Path, *, device: str = "auto", dtype: str = "auto", weights: bool = True
) -> UnifiedPolicy:
    """As ``load_policy``, and also a run's folder: its final model, else its newest undamaged checkpoint; or the
    folder of a checkpoint.

    Raises ValueError as ``load_policy`` does, CheckpointError for a damaged checkpoint.
    """
    folder = model_folder_of(name)
    if folder is None:
        return load_policy(name, device=device, dtype=dtype, weights=weights)
    if (folder / "config.json").is_file():
        logger.info("model: %s", folder)
        return load_policy(folder, device=device, dtype=dtype, weights=weights)
    return from_checkpoint(folder, device=device, dtype=dtype, weights=weights)


def resolve_model(name: str | Path) -> Path:
    """The folder that holds the weights, as ``load_model`` finds it."""
    return model_folder_of(name) or resolve(name)


def model_folder_of(name: str | Path) -> Path | None:
    """final/ of a run, else the folder of its newest checkpoint, or a checkpoint itself; None for anything else."""
    folder = Path(name).expanduser()
    if name in SHIPPED or not folder.is_dir() or (folder / "config.json").is_file():
        return None
    if (folder / FINAL / "config.json").is_file():
        return folder / FINAL
    if (folder / "state.json").is_file():
        return folder
    return newest_checkpoint(folder)


def newest_checkpoint(run: Path) -> Path | None:
    """The folder of a run's newest undamaged checkpoint; None when the run has no checkpoint.

    Raises CheckpointError when all are damaged.
    """
    if not list_checkpoints(run / CHECKPOINTS):
        return None
    found = load_newest(run / CHECKPOINTS)
    assert found is not None
    return run / CHECKPOINTS / f"step-{found.step:06d}"


def from_checkpoint(
    folder: Path, *, device: str = "auto", dtype: str = "auto", weights: bool = True, base: str | None = None
) -> UnifiedPolicy:
    """The model that a run had when it wrote a checkpoint: the model that it began with, and the trained weights.

    base: where that model is now, if not where the run found it. Raises CheckpointError for a damaged checkpoint and
    ValueError when the base is another model, which is found out where it is loaded in the run's own type.
    """
    checkpoint = load_checkpoint(folder)
    state = read_run_state(checkpoint.state, folder)
    chosen = settings_of(state, folder).policy
    try:
        policy = load_model(base or chosen.model, device=device, dtype=dtype, weights=weights)
    except ValueError as error:
        raise ValueError(f"{folder}: the model that its run began with is needed: {error}") from error
    logger.info("model: %s with the weights of %s", base or chosen.model, folder)
    if weights:
        own = str(next(policy.module.parameters()).dtype).removeprefix("torch.")
        if own == state.dtype and digest_of_tensors(policy.module.state_dict()) != state.policy_sha256:
            raise ValueError(f"{folder}: {base or chosen.model} is not the model that its run began with")
        _fill(policy, checkpoint, chosen.trainable, getattr(torch, state.dtype))
    return policy


@torch.no_grad()
def _fill(policy: UnifiedPolicy, checkpoint: Checkpoint, trainable: list[str], dtype: torch.dtype) -> None:
    trained = checkpoint.tensors.get("trained", {})
    parameters = dict(policy.train_only(trainable))
    if set(parameters) != set(trained) or any(
        trained[name].shape != parameter.shape for name, parameter in parameters.items()
    ):
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} is of another model than {policy.name}"
        )
    for name, parameter in parameters.items():
        # what trains is kept in float32; the model is what the run used: rounded to its own type
        parameter.copy_(trained[name].to(dtype))
    policy.module.requires_grad_(True)
