"""How a run begins or resumes in its folder: what identifies it, and what is kept of an earlier part."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pairuni.config import RunSettings
from pairuni.distributed.world import World
from pairuni.io.files import clear_partial
from pairuni.pairgrpo.checkpoints import Position
from pairuni.policies.policy import UnifiedPolicy
from pairuni.records import UGPair
from pairuni.runs.folder import RunFolder
from pairuni.runs.metrics import MetricsLog
from pairuni.runs.state import RunState, digest_of_pairs, places_of
from pairuni.training.checkpoint import list_checkpoints
from pairuni.training.digests import digest_of_tensors

logger = logging.getLogger("pairuni")


def refuse_existing(run: RunFolder, resume: bool) -> None:
    """Raise ValueError if the folder holds a run that is not to be resumed."""
    if not resume and (run.metrics.exists() or list_checkpoints(run.checkpoints)):
        raise ValueError(f"{run.root} already holds a run; resume it or choose another folder")


def identity_of(
    settings: RunSettings,
    policy: UnifiedPolicy,
    pairs: Sequence[UGPair],
    images_digest: str,
    *,
    pairs_per_update: int,
    steps: int,
) -> RunState:
    """What distinguishes a run from others; if weights are sharded, an exchange. images_digest: of ``check_pairs``."""
    module = policy.inference_module
    return RunState(
        num_tokens=0,
        seed=settings.seed,
        pairs_per_update=pairs_per_update,
        steps=steps,
        pairs_sha256=digest_of_pairs(pairs),
        pictures_sha256=images_digest,
        policy_sha256=digest_of_tensors(module.state_dict()),
        dtype=str(next(module.parameters()).dtype).removeprefix("torch."),
        places=places_of(settings.policy),
        settings=settings.model_dump(mode="json"),
    )


def check_same(world: World, own: Mapping[str, Any], run: RunFolder) -> None:
    """Raise ValueError unless all ranks have the same values; an exchange."""
    first, *others = world.gather(own)
    for rank, other in enumerate(others, start=1):
        odd = [name for name in first if first[name] != other[name]]
        if odd:
            raise ValueError(
                f"rank {rank} differs from rank 0 in {odd[0]}: all processes must run the same command on the "
                f"same files, and all machines must see {run.root} and the pairs"
            )


def clear_partials(run: RunFolder) -> None:
    """Remove files and folders that a killed process left half written."""
    for folder in (run.root, run.checkpoints, run.samples, run.evaluation):
        clear_partial(folder)


def keep_complete_steps(
    run: RunFolder, metrics: MetricsLog, position: Position, saved: RunState | None
) -> None:
    """Remove what steps after ``position`` left in the folder. saved: the checkpoint's state; None without one."""
    metrics.rewind(position.step or -1)  # a run without a checkpoint evaluates step 0 again
    MetricsLog(run.samples_log).rewind(position.step)
    if saved is None:
        run.history.unlink(missing_ok=True)
        return
    logger.info("resuming after step %d", position.step)
    rows = metrics.rows()
    if saved.unlogged is not None and (not rows or rows[-1]["step"] < position.step):
        metrics.append(saved.unlogged)
