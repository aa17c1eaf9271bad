"""The frozen reference of a Janus, and how a Janus is split over processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from transformers import JanusForConditionalGeneration

from pairuni.policies.autoregressive import TokenTrajectory
from pairuni.policies.janus.parts import REPLAY, JanusParts
from pairuni.policies.janus.scoring import JanusScorer
from pairuni.policies.llama import PACKED_FORWARD
from pairuni.policies.policy import ReferencePolicy
from pairuni.policies.sharding import shard_module
from pairuni.policies.trajectories import padded


class JanusReference(ReferencePolicy[TokenTrajectory]):
    """A Janus whose weights stay as they are. shared: a model with which it shares the weights that never trained."""

    def __init__(self, parts: JanusParts, *, shared: JanusForConditionalGeneration) -> None:
        self._parts, self._shared = parts, shared

    @torch.no_grad()
    def log_probs(self, trajectories: Sequence[TokenTrajectory]) -> Tensor:
        return padded(JanusScorer(self._parts).log_probs(trajectories, checkpointing=False)).values

    def shard(self, mesh: DeviceMesh, *, reshard_after_forward: bool) -> None:
        shard_janus(self._parts, mesh, self._shared, reshard_after_forward)


def shard_janus(
    parts: JanusParts, mesh: DeviceMesh, whole: JanusForConditionalGeneration, reshard_after_forward: bool
) -> None:
    """Split the parameters over ``mesh``. whole: the model that decodes, with whole weights."""
    shard_module(
        parts.model,
        parts.model.model.language_model.layers,
        mesh,
        methods=(REPLAY, PACKED_FORWARD),
        whole=whole,
        reshard_after_forward=reshard_after_forward,
    )
