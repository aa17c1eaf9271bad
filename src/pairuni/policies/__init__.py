"""A unified model: weights, prompts, tokens, log-probs. No RL and no datasets here."""

from pairuni.policies.policy import UnifiedPolicy
from pairuni.policies.registry import load_policy
from pairuni.policies.requests import ImageSampling, TextSampling
from pairuni.policies.trajectories import (
    ImageTrajectory,
    LogProbBranch,
    TextTrajectory,
    Trajectory,
    TrajectoryLogProbs,
)

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
