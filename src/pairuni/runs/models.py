"""Models of runs: the folder of a run or of a checkpoint is accepted in place of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pairuni.config import PolicySettings, RunSettings, load_settings
from pairuni.io.locks import target_lock
from pairuni.policies.adapters import base_of, is_adapter_folder
from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.registry import SHIPPED, load_policy, resolve
from pairuni.policies.requests import CannotEdit
from pairuni.runs.best import best_checkpoint, run_of_best
from pairuni.runs.folder import RunFolder, step_name
from pairuni.runs.state import policy_of, read_run_state
from pairuni.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    load_state,
)
from pairuni.training.digests import digest_of_tensors

logger = logging.getLogger("pairuni")


def load_for_run(settings: PolicySettings, *, weights: bool = True) -> UnifiedPolicy:
    """The policy that a run with these settings begins with. weights: as in ``load_policy``."""
    return load_model(
        settings.model, device=settings.device, dtype=settings.dtype, weights=weights, settings=settings
    )


def load_model(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    weights: bool = True,
    settings: PolicySettings | None = None,
) -> UnifiedPolicy:
    """Load as ``load_policy`` does, also from the folder of a run, a checkpoint or an adapter.

    A run gives its final model, or else its newest undamaged checkpoint; RUN@best gives the checkpoint with the best
    held-out score (``best_checkpoint``). An adapter, in a folder or on the hub, gives its base model with the adapter
    merged.

    name: what ``load_policy`` takes, one of these folders, or the hub name of an adapter. device, dtype, weights,
    settings: as in ``load_policy``.

    Raises ValueError as ``load_policy`` does, CheckpointError for a damaged checkpoint.
    """
    folder = model_folder_of(name) or _hub_adapter(name, weights=weights)
    if folder is None:
        return load_policy(name, device=device, dtype=dtype, weights=weights, settings=settings)
    if (folder / "config.json").is_file():
        if weights:
            logger.info("model: %s", folder)
        return load_policy(folder, device=device, dtype=dtype, weights=weights, settings=settings)
    if is_adapter_folder(folder):
        return with_adapter(folder, device=device, dtype=dtype, weights=weights, settings=settings)
    return from_checkpoint(folder, device=device, dtype=dtype, weights=weights, settings=settings)


def check_edits(model: str | Path | UnifiedPolicy) -> None:
    """Raise CannotEdit, a ValueError, if a model cannot edit images; weights are not read for that."""
    policy = model if isinstance(model, UnifiedPolicy) else load_model(model, device="cpu", weights=False)
    if not policy.edits:
        raise CannotEdit(policy.name)


def shows_several(name: str | Path) -> bool:
    """Whether a question to a model may show several images; its weights are not read."""
    return load_model(name, device="cpu", weights=False).several_images


def with_adapter(
    folder: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    weights: bool = True,
    base: str | None = None,
    settings: PolicySettings | None = None,
) -> UnifiedPolicy:
    """The model of an adapter's folder, adapter merged.

    base: where its base model is, if not where the adapter says. settings: those of the run that continues; by default
    those of the run whose final model this is. Raises ValueError if the adapter does not fit its base.
    """
    settings = settings or _settings_of_final(folder)
    model = base or base_of(folder)
    with _needed(folder, "the adapter's base model"):
        policy = load_model(model, device=device, dtype=dtype, weights=weights, settings=settings)
    if weights:
        logger.info("model: %s with the adapter %s", model, folder)
        policy.load_adapter(folder)
    policy.name = str(folder)
    return policy


def resolve_model(name: str | Path) -> Path:
    """The folder with the weights that ``load_model`` loads."""
    return model_folder_of(name) or resolve(name)


def model_folder_of(name: str | Path) -> Path | None:
    """The folder of a run's model, a checkpoint or an adapter; None for anything else.

    Of a run, final/, else its newest checkpoint; of RUN@best its best one.
    """
    if (run := run_of_best(name)) is not None:
        return _best_of(run)
    folder = Path(name).expanduser()
    if name in SHIPPED or not folder.is_dir() or (folder / "config.json").is_file():
        return None
    final = RunFolder(folder).final
    if (final / "config.json").is_file() or is_adapter_folder(final):
        return final
    if is_adapter_folder(folder):
        return folder
    if _is_checkpoint(folder):
        return folder
    return newest_checkpoint(folder)


def _hub_adapter(name: str | Path, *, weights: bool) -> Path | None:
    """The snapshot of an adapter on the hub; None for any other model."""
    if name in SHIPPED or Path(name).expanduser().is_dir():
        return None
    snapshot = resolve(name, weights=weights)
    return snapshot if is_adapter_folder(snapshot) and not (snapshot / "config.json").is_file() else None


def newest_checkpoint(run: Path) -> Path | None:
    """The folder of a run's newest undamaged checkpoint; None if the run has no checkpoint.

    Raises CheckpointError if all are damaged.
    """
    checkpoints = RunFolder(run).checkpoints
    if not list_checkpoints(checkpoints):
        return None
    found = load_newest(checkpoints)
    assert found is not None
    return checkpoints / step_name(found.step)


def from_checkpoint(
    folder: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    weights: bool = True,
    base: str | None = None,
    settings: PolicySettings | None = None,
) -> UnifiedPolicy:
    """The model of a checkpoint: the model that its run began with, and the trained weights.

    base: where that model is, if not where the run found it. settings: those of the run that continues; by default
    those of the run that made the checkpoint. Raises CheckpointError for a damaged checkpoint, and
    ValueError if the base is another model; that is detected only when it is loaded in the run's dtype.
    """
    checkpoint = load_checkpoint(folder)
    state = read_run_state(checkpoint.state, folder)
    run = policy_of(state, folder)
    model = base or run.model
    with _needed(folder, "the model that its run began with"):
        policy = load_model(model, device=device, dtype=dtype, weights=weights, settings=settings or run)
    if weights:
        logger.info("model: %s with the weights of %s", model, folder)
        if run.lora is not None:
            policy.add_adapters(run.lora, seed=0)
        own = str(next(policy.inference_module.parameters()).dtype).removeprefix("torch.")
        if (
            own == state.dtype
            and digest_of_tensors(policy.inference_module.state_dict()) != state.policy_sha256
        ):
            raise ValueError(f"{folder}: {model} is not the model that its run began with")
        _load_trained(policy, checkpoint, run.trainable, getattr(torch, state.dtype))
    # the base of an adapter that trains on top of it
    policy.name = str(folder)
    return policy


def export_checkpoint(source: Path, out: Path | None = None, *, base: str | None = None) -> tuple[Path, Path]:
    """Write the model of a checkpoint as a model folder; returns (folder, checkpoint).

    source: a checkpoint, a run for its newest one, or RUN@best. out: by default exported/<checkpoint> in the run's
    folder. Raises ValueError if there is no checkpoint or ``out`` is not empty, and as ``from_checkpoint`` does.
    """
    checkpoint: Path | None
    if (run := run_of_best(source)) is not None:
        checkpoint = _best_of(run)
    elif not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; give a run's folder or one of its checkpoints")
    else:
        checkpoint = source if _is_checkpoint(source) else newest_checkpoint(source)
    if checkpoint is None:
        raise ValueError(f"{source} is not a checkpoint and has none in checkpoints/")
    out = out or checkpoint.parent.parent / "exported" / checkpoint.name
    with target_lock(out, "export"):
        _check_new(out)
        dtype = read_run_state(load_state(checkpoint)[1], checkpoint).dtype
        from_checkpoint(checkpoint, device="cpu", dtype=dtype, base=base).save_pretrained(out)
    return out, checkpoint


def merge_adapter(source: Path, out: Path, *, base: str | None = None) -> Path:
    """Write the model of an adapter, or of a run that trained one, as a model folder; returns the adapter's folder.

    Raises FileNotFoundError if there is no folder, ValueError if it has no adapter or ``out`` is not empty, and as
    ``with_adapter`` does.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; give an adapter's folder, or a run with one")
    adapter = next((one for one in (source, RunFolder(source).final) if is_adapter_folder(one)), None)
    if adapter is None:
        raise ValueError(
            f"{source} has no adapter_config.json; give an adapter's folder, or a finished run with one"
        )
    with target_lock(out, "merge"):
        _check_new(out)
        with_adapter(adapter, device="cpu", dtype="auto", base=base).save_pretrained(out)
    return adapter


def _settings_of_final(folder: Path) -> PolicySettings | None:
    """The policy settings of the run whose final model is in ``folder``; None if the folder is not a run's."""
    run = RunFolder(folder.parent)
    if folder.name != run.final.name or not run.config.is_file():
        return None
    return load_settings(RunSettings, run.config).policy


def _best_of(run: Path) -> Path:
    """The folder of a run's best checkpoint; says which one it is, and if a better step has none."""
    best = best_checkpoint(run)
    logger.info("%s: the best checkpoint is that of step %d, held-out score %.4f", run, best.step, best.score)
    if best.higher is not None:
        logger.warning(
            "%s: the held-out score was higher at step %d, %.4f, but no checkpoint of it is kept; "
            "checkpoint.keep_best keeps the best ones",
            *(run, *best.higher),
        )
    return best.folder


@contextmanager
def _needed(folder: Path, model: str) -> Iterator[None]:
    """Say why another model is loaded for ``folder`` when that fails."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{folder}: {model} is needed: {error}") from error


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} already exists; give another --out, or remove it")


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "state.json").is_file()


@torch.no_grad()
def _load_trained(
    policy: UnifiedPolicy, checkpoint: Checkpoint, trainable: list[str], dtype: torch.dtype
) -> None:
    trained = checkpoint.tensors.get("trained", {})
    parameters = dict(policy.train_only(trainable))
    if set(parameters) != set(trained) or any(
        trained[name].shape != parameter.shape for name, parameter in parameters.items()
    ):
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} is of another model than {policy.name}"
        )
    for name, parameter in parameters.items():
        # checkpoints hold float32 master weights; the run's model had them rounded to its own dtype
        parameter.copy_(trained[name].to(dtype))
    policy.merge_adapters()
    policy.module.requires_grad_(True)
