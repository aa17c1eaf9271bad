"""A small random policy of each model family, for tests that hold for all of them."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from pairuni.config import LuminaDimooSettings
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy, load_lumina_dimoo
from tiny_lumina import SAMPLING, save_byte_lumina
from tiny_models import tiny_janus

FAMILIES = ("janus", "lumina_dimoo")


def tiny_policy(
    family: str, dtype: torch.dtype = torch.float32, *, folder: Path | None = None, **settings: Any
) -> JanusPolicy | LuminaDimooPolicy:
    """A new policy with the same weights each time.

    folder: where the checkpoint of a Lumina-DiMOO is, or is written; by default one of this process. settings: of
    ``policy``.
    """
    if family == "janus":
        model, processor = tiny_janus()
        return JanusPolicy(model.to(dtype), processor)
    chosen = LuminaDimooSettings(model="tiny", type="lumina_dimoo", **settings)
    folder = _lumina_folder() if folder is None else folder
    if not folder.exists():
        save_byte_lumina(folder, **SAMPLING)
    return load_lumina_dimoo(
        folder, name=str(folder), device=torch.device("cpu"), dtype=dtype, settings=chosen
    )


@functools.cache
def _lumina_folder() -> Path:
    parent = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, parent)
    return Path(parent) / "lumina"
