"""One set of a model's weights, as sampling and scoring use them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import Tensor, nn

from pairuni.policies.llama import LlamaLayers

REPLAY = "packed_replay"
"""The method of a model in which its replay runs; registered with FSDP2 as a forward method."""

LANGUAGE_MODEL = "language_model"
"""The part that adapters belong to."""


class ModelParts(ABC):
    """A model, the layers of its language model, and the parts that ``policy.trainable`` can name.

    decoder: the ``LlamaModel`` inside the model.
    """

    def __init__(self, model: Any, decoder: nn.Module) -> None:
        self.model = model
        if not hasattr(model, REPLAY):
            setattr(model, REPLAY, MethodType(_call, model))
        self.decoder = decoder
        self.layers = LlamaLayers(decoder)

    @property
    @abstractmethod
    def by_name(self) -> dict[str, list[nn.Module]]:
        """The parts that ``policy.trainable`` can name; one is "language_model"."""

    def replay(self, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Call ``compute``, which may use all weights of the model, as a forward pass of the model."""
        result: list[Tensor] = getattr(self.model, REPLAY)(compute)
        return result

    def path(self, module: nn.Module) -> str:
        """The dotted name of a module in the model."""
        return next(name for name, one in self.model.named_modules() if one is module)


def _call(_: nn.Module, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
    return compute()
