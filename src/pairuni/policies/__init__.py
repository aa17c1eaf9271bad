"""A unified model: weights, prompts, tokens, log-probs. No RL and no datasets here."""

from pairuni.policies.policy import (
    ImageSampling,
    ImageTrajectory,
    LogProbBranch,
    TextSampling,
    TextTrajectory,
    Trajectory,
    TrajectoryLogProbs,
    UnifiedPolicy,
)
from pairuni.policies.registry import load_policy

__all__ = [
    "ImageSampling",
    "ImageTrajectory",
    "LogProbBranch",
    "TextSampling",
    "TextTrajectory",
    "Trajectory",
    "TrajectoryLogProbs",
    "UnifiedPolicy",
    "load_policy",
]
