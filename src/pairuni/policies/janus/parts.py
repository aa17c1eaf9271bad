"""One set of Janus weights, as sampling and scoring use them."""

from __future__ import annotations

from torch import nn
from transformers import JanusForConditionalGeneration, JanusProcessor

from pairuni.policies.decoding.sampling import Head
from pairuni.policies.janus.inputs import JanusInputs
from pairuni.policies.token_parts import TokenParts


class JanusParts(TokenParts):
    """Input embeddings, decoder layers and heads of a model."""

    model: JanusForConditionalGeneration
    inputs: JanusInputs

    def __init__(self, model: JanusForConditionalGeneration, processor: JanusProcessor) -> None:
        super().__init__(model, model.model.language_model)
        self.inputs = JanusInputs(model, processor)
        head = model.model.generation_head
        self.text_head = Head(features=lambda states: states, project=model.lm_head)
        self.image_head = Head(
            features=lambda states: head.activation_fn(head.proj_out(states)), project=head.vision_head
        )

    @property
    def by_name(self) -> dict[str, list[nn.Module]]:
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
