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
from pairuni.policies.emu3.grid import Grid
from pairuni.policies.emu3.policy import Emu3Policy
from pairuni.policies.janus.policy import JanusPolicy
from pairuni.policies.lumina_dimoo.policy import LuminaDimooPolicy, load_lumina_dimoo
from tiny_emu3 import tiny_emu3
from tiny_lumina import SAMPLING, save_byte_lumina
from tiny_models import tiny_janus

FAMILIES = ("janus", "lumina_dimoo", "emu3")


def tiny_policy(
    family: str, dtype: torch.dtype = torch.float32, *, folder: Path | None = None, **settings: Any
) -> JanusPolicy | LuminaDimooPolicy | Emu3Policy:
    """A new policy with the same weights each time.

    folder: where the checkpoint of a Lumina-DiMOO is, or is written; by default one of this process. settings: of
    ``policy``.
    """
    if family == "janus":
        model, processor = tiny_janus()
        return JanusPolicy(model.to(dtype), processor)
    if family == "emu3":
        emu3, emu3_processor = tiny_emu3()
        return Emu3Policy(emu3.to(dtype), emu3_processor, grid=Grid(height=3, width=4))
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
