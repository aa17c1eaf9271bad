"""Folders of policies that appear whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from pairuni.files import replacing_folder


def written_aside(folder: Path) -> AbstractContextManager[Path]:
    """An empty folder to save a policy into; its files take their place in ``folder`` when the block ends well.

    In a folder that exists other files stay, but for weights that the new index does not name.
    """
    return replacing_folder(folder, keep_all_but="model*.safetensors*")
