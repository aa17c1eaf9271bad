"""Policies in the public evaluation harnesses: lmms-eval by its entry point, VLMEvalKit by a wrapper.

Neither is imported before it is used: lmms-eval loads this module to learn what it may load later.
"""

from __future__ import annotations

from typing import Any


def lmms_eval_manifest() -> Any:
    """What the entry point ``lmms_eval.models`` of this package declares: ``--model pairuni``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="pairuni", simple_class_path="pairuni.harness.lmms_eval_model.PairUni")
