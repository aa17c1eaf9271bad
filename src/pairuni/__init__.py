"""Post-train unified vision-language models on understanding-generation pairs (arXiv:2510.25682).

    import pairuni

    pairuni.build_pairs("pairs.toml")
    run = pairuni.train("recipe.toml", out="runs/mine")
    model = pairuni.load_model(run.folder)

Each name is imported on first use, so that ``import pairuni`` alone loads neither torch nor anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairuni.api.evaluation import evaluate
    from pairuni.api.pairs import build_pairs
    from pairuni.api.training import TrainingResult, train
    from pairuni.config import PairsSettings, RewardSettings, RunSettings, load_settings, shipped_recipe
    from pairuni.evaluation.result import Result, read_result
    from pairuni.pairgrpo.rollout import Rewards
    from pairuni.pairgrpo.trainer import Trainer
    from pairuni.pairug.build import BuildSummary
    from pairuni.pairug.dataset.store import read_pairs, write_pairs
    from pairuni.policies import ImageSampling, TextSampling, UnifiedPolicy, load_policy
    from pairuni.records import Annotation, UGPair
    from pairuni.rewards.registry import image_reward, text_reward
    from pairuni.runs.models import load_model
    from pairuni.runs.run import Run, read_run

__version__ = "0.1.0"

__all__ = [
    "Annotation",
    "BuildSummary",
    "ImageSampling",
    "PairsSettings",
    "Result",
    "RewardSettings",
    "Rewards",
    "Run",
    "RunSettings",
    "TextSampling",
    "Trainer",
    "TrainingResult",
    "UGPair",
    "UnifiedPolicy",
    "__version__",
    "build_pairs",
    "evaluate",
    "image_reward",
    "load_model",
    "load_policy",
    "load_settings",
    "read_pairs",
    "read_result",
    "read_run",
    "shipped_recipe",
    "text_reward",
    "train",
    "write_pairs",
]

_MODULES = {
    "pairuni.api.evaluation": ("evaluate",),
    "pairuni.api.pairs": ("build_pairs",),
    "pairuni.api.training": ("TrainingResult", "train"),
    "pairuni.config": ("PairsSettings", "RewardSettings", "RunSettings", "load_settings", "shipped_recipe"),
    "pairuni.evaluation.result": ("Result", "read_result"),
    "pairuni.pairgrpo.rollout": ("Rewards",),
    "pairuni.pairgrpo.trainer": ("Trainer",),
    "pairuni.pairug.build": ("BuildSummary",),
    "pairuni.pairug.dataset.store": ("read_pairs", "write_pairs"),
    "pairuni.policies": ("ImageSampling", "TextSampling", "UnifiedPolicy", "load_policy"),
    "pairuni.records": ("Annotation", "UGPair"),
    "pairuni.rewards.registry": ("image_reward", "text_reward"),
    "pairuni.runs.models": ("load_model",),
    "pairuni.runs.run": ("Run", "read_run"),
}
"""The imports above, made when a name is used."""
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'pairuni' has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
