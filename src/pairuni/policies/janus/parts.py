"""One set of Janus weights, as sampling and scoring use them."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

from torch import Tensor, nn
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.policies.decoding.sampling import Head
from pairuni.policies.janus.inputs import JanusInputs
from pairuni.policies.llama import LlamaLayers

REPLAY = "packed_replay"
"""The method of a model in which its replay runs; registered with FSDP2 as a forward method."""


class JanusParts:
    """Input embeddings, decoder layers and heads of a model."""

    def __init__(self, model: JanusForConditionalGeneration, processor: JanusProcessor) -> None:
        self.model = model
        if not hasattr(model, REPLAY):
            setattr(model, REPLAY, MethodType(_call, model))
        self.inputs = JanusInputs(model, processor)
        self.layers = LlamaLayers(model.model.language_model)
        head = model.model.generation_head
        self.text_head = Head(features=lambda states: states, project=model.lm_head)
        self.image_head = Head(
            features=lambda states: head.activation_fn(head.proj_out(states)), project=head.vision_head
        )

    @property
    def by_name(self) -> dict[str, list[nn.Module]]:
        """The parts that ``policy.trainable`` can name."""
        core = self.model.model
        return {
            "language_model": [core.language_model, self.model.lm_head],
            "vision_model": [core.vision_model],
            "aligner": [core.aligner],
            "vqmodel": [core.vqmodel],
            "generation_embeddings": [core.generation_embeddings],
            "generation_aligner": [core.generation_aligner],
            "generation_head": [core.generation_head],
        }

    def replay(self, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Call ``compute``, which may use all weights of the model, as a forward pass of the model."""
        result: list[Tensor] = getattr(self.model, REPLAY)(compute)
        return result


def _call(_: JanusForConditionalGeneration, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
    return compute()
