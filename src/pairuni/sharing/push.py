"""Pushes the model of a run to the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pairuni.io.files import PARTIAL, atomic_folder
from pairuni.io.locks import target_lock
from pairuni.io.publishing import check_access, publish_folder
from pairuni.sharing.card import MARK
from pairuni.sharing.folder import STALE, Sharing, prepare_folder
from pairuni.sharing.source import find_source

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def push_model(
    name: Path, sharing: Sharing, *, private: bool = False, unfinished: bool = False, api: HfApi | None = None
) -> str:
    """Push a run, RUN@best or a checkpoint to the hub as a model; returns its URL.

    The folder is prepared in the run's folder and removed afterwards. Without changes in the run, a second push changes
    nothing on the hub. private: create the repository as private. unfinished: also of a run that has not ended.
    Raises as ``find_source``, ``prepare_folder`` and ``publish_folder`` do.
    """
    check_access(api)
    source = find_source(name, unfinished=unfinished)
    root = source.run.folder.root
    with tempfile.TemporaryDirectory(prefix=".push-", suffix=PARTIAL, dir=root) as prepared:
        folder = Path(prepared)
        prepare_folder(source, folder, sharing, copy=False)
        step = "" if source.step is None else f" of step {source.step:,}"
        return publish_folder(
            folder,
            sharing.repo,
            kind="model",
            message=f"Model{step}",
            mark=MARK,
            stale=STALE,
            private=private,
            revision=sharing.revision,
            api=api,
        )


def write_model(name: Path, sharing: Sharing, out: Path, *, unfinished: bool = False) -> Path:
    """Write exactly what ``push_model`` uploads to a new folder. Raises ValueError if it exists and is not empty."""
    with target_lock(out, "push"):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} already exists; give another --out, or remove it")
        source = find_source(name, unfinished=unfinished)
        with atomic_folder(out) as folder:
            prepare_folder(source, folder, sharing, copy=True)
    return out
