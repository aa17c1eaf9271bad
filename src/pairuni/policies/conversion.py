"""Conversion of a checkpoint between the layout of ``transformers`` and its family's original layout."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pairuni.policies.registry import TYPES, checkpoint_type

Layout = Literal["transformers", "original"]

CONVERTERS = {
    "janus": "pairuni.policies.janus.convert:convert_checkpoint",
    "lumina_dimoo": "pairuni.policies.lumina_dimoo.convert:convert_checkpoint",
}
"""``policy.type`` -> "module:function", called with (source, target, layout)."""


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion did; tensors and parameters count those of the model.

    unused: original tensors that the model does not use, kept in a file of their own in the transformers layout.
    absent: whether the original layout was written without them, because the source does not have them.
    """

    source_layout: Layout
    target_layout: Layout
    tensors: int
    parameters: int
    unused: tuple[str, ...] = ()
    absent: bool = False


def convert_checkpoint(source: Path, target: Path, layout: Layout) -> ConversionReport:
    """Write the checkpoint in ``source`` to the new folder ``target`` in the other layout, dtypes unchanged.

    Raises ValueError for a checkpoint of an unknown kind, without other layouts, damaged, or of this layout already,
    and when the target folder is not empty.
    """
    model_type = checkpoint_type(source)
    converter = CONVERTERS.get(TYPES.get(model_type, ""))
    if converter is None:
        raise ValueError(
            f"{source} is a {model_type}, which has one layout only; there is nothing to convert."
        )
    module, _, attribute = converter.partition(":")
    report: ConversionReport = getattr(importlib.import_module(module), attribute)(source, target, layout)
    return report


def check_conversion(source: Path, found: Layout, target: Path, layout: Layout) -> None:
    """Raise ValueError for a layout that the source has already, and for a target that is not empty."""
    if layout not in ("transformers", "original"):
        raise ValueError(f"The layout {layout!r} is unknown; choose 'transformers' or 'original'.")
    if found == layout:
        raise ValueError(f"{source} already has the {layout} layout; no files were written.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder; choose another target.")
