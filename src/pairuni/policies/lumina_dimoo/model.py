"""What Lumina-DiMOO computes: states of packed rows, and scores of text tokens or picture codes.

The network is Llama's with full attention (Alpha-VLLM/Lumina-DiMOO, ``model/modeling_llada.py``). A masked position's
state predicts the token of that position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear
from transformers import LlamaForCausalLM

from pairuni.policies.llama import Forward
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.packing import PackedRows
from pairuni.policies.parts import LANGUAGE_MODEL, ModelParts
from pairuni.policies.replay import linear_log_probs


@dataclass(frozen=True)
class OutputHead:
    """The rows of lm_head that a decision chooses from.

    weight: [V, H]. bias: [V], minus infinity for tokens that cannot be chosen, or None. first: the id of row 0.
    """

    weight: Tensor
    bias: Tensor | None
    first: int

    def logits(self, features: Tensor) -> Tensor:
        """[N, H] -> [N, V] in float32 or finer."""
        logits = linear(features, self.weight, self.bias)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def log_probs(self, features: Tensor, choices: Tensor, temperature: Tensor) -> Tensor:
        """float32 log softmax(logits / temperature) at the choices, differentiable; [N, H], [N], [N] -> [N]."""
        affine: Any = self
        return linear_log_probs(features, affine, choices, temperature)


class LuminaDimoo(ModelParts):
    """A model's weights and special ids, and what is computed with them."""

    def __init__(self, model: LlamaForCausalLM, ids: TokenIds) -> None:
        super().__init__(model, model.model)
        self.ids = ids

    @property
    def by_name(self) -> dict[str, list[nn.Module]]:
        return {LANGUAGE_MODEL: [self.model.model, self.model.lm_head]}

    @property
    def device(self) -> torch.device:
        return self.layers.device

    def text_head(self) -> OutputHead:
        """Chooses any token but the mask.

        The original can sample the mask, after which the position is still not set; a trained model almost never does.
        """
        weight = self.model.lm_head.weight
        bias = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
        bias[self.ids.mask] = -torch.inf
        return OutputHead(weight, bias, first=0)

    def code_head(self) -> OutputHead:
        """Chooses among the picture codes alone."""
        first = self.ids.codes
        return OutputHead(self.model.lm_head.weight[first : first + self.ids.codebook], None, first=first)

    def states(
        self,
        rows: Sequence[Tensor],
        wanted: Sequence[Tensor],
        *,
        forward: Forward | None = None,
        checkpointing: bool = False,
    ) -> Tensor:
        """States at the wanted positions of rows of ids: [L_r], [M_r] -> [sum of M_r, H], in the order of the rows.

        Rows of any lengths are computed in one pass; equal rows are computed once. forward: a function as
        ``LlamaLayers.inference`` gives it, by default the differentiable pass.
        """
        different, of_row = distinct(rows)
        packing = PackedRows([len(row) for row in different])
        tokens = torch.cat([different[index] for index in packing.order]).to(self.device)
        embeds = embedding(tokens, self.model.model.embed_tokens.weight)
        rotary = self.layers.rotary(packing.longest)[:, packing.positions.to(self.device)]
        if forward is None:
            states = self.layers.forward(embeds, rotary, packing.attend, checkpointing=checkpointing)
        else:
            states = forward(embeds, rotary, packing.attend)
        places = [packing.starts[index] + place for index, place in zip(of_row, wanted, strict=True)]
        return states.index_select(0, torch.cat(places).to(self.device))


def distinct(rows: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """The different rows of ids, and for each row the index of its equal among them."""
    numbers: dict[bytes, int] = {}
    found: list[Tensor] = []
    of_row = []
    for row in rows:
        number = numbers.setdefault(row.numpy().tobytes(), len(found))
        if number == len(found):
            found.append(row)
        of_row.append(number)
    return found, of_row


def guided(conditional: Tensor, others: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Classifier-free guidance of features: c + the sum of s (c - u) over unconditional features u of strength s.

    The head is linear, so that guidance of features is guidance of logits with one projection instead of several. The
    original's (1 + s) c - s u of pictures is one u; editing has two, without the text and without the picture
    (``generators/image_generation_generator.py``, ``generators/image_to_image_generator.py``).
    """
    if not others:
        return conditional
    wide = conditional.to(torch.promote_types(conditional.dtype, torch.float32))
    mixed = wide
    for unconditional, strength in others:
        mixed = mixed + strength * (wide - unconditional.to(wide))
    return mixed.to(conditional.dtype)
