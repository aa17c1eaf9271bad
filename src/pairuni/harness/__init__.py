"""Policies as models of public evaluation harnesses: lmms-eval by its entry point, VLMEvalKit by a wrapper.

Imports neither harness, because lmms-eval loads this module to list available models.
"""

from __future__ import annotations

from typing import Any


def lmms_eval_manifest() -> Any:
    """The manifest behind this package's entry point ``lmms_eval.models``, which provides ``--model pairuni``."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="pairuni", simple_class_path="pairuni.harness.lmms_eval_model.PairUni")
