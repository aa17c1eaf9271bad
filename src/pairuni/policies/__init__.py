"""A unified model: weights, prompts, tokens, log-probs. Knows no RL and no data sets."""

from pairuni.policies.policy import (
    ImageTrajectory,
    LogProbBranch,
    TextTrajectory,
    Trajectory,
    TrajectoryLogProbs,
    UnifiedPolicy,
)
from pairuni.policies.registry import load_policy

__all__ = [
    "ImageTrajectory",
    "LogProbBranch",
    "TextTrajectory",
    "Trajectory",
    "TrajectoryLogProbs",
    "UnifiedPolicy",
    "load_policy",
]
