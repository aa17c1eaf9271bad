"""The layers of a ``transformers`` Llama as one function of packed tokens; the caller supplies attention.

Prefill, decoding and replay differ only in attention. Everything else (norms, projections, rotary positions, MLP) runs
here on a plain [N, H] matrix of tokens, whichever sequences they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mkldnn
from torch.nn.functional import linear, rms_norm, silu
from torch.utils.checkpoint import checkpoint

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries [N, heads, D], keys [N, kv_heads, D], values [N, kv_heads, D]) -> [N, heads, D]."""

Forward = Callable[[Tensor, Tensor, Attend], Tensor]
"""(embeddings [N, H], rotary [2, N, D], attention) -> states [N, H]."""


class LlamaLayers:
    """The decoder layers and the final norm of a ``LlamaModel``, with the model's own weights.

    Raises ValueError for a model that is not a Llama.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        if config.model_type != "llama" or config.hidden_act != "silu":
            raise ValueError(
                f"The language model is a {config.model_type} with {config.hidden_act}; only Llama is supported."
            )
        self.model = model
        self.depth: int = config.num_hidden_layers
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = config.head_dim
        self.scale: float = self.head_dim**-0.5
        self.eps: float = config.rms_norm_eps

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.norm.weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.norm.weight.device
        return device

    @property
    def token_bytes(self) -> int:
        """Bytes of the keys and values of one token in all layers."""
        return 2 * self.depth * self.kv_heads * self.head_dim * self.dtype.itemsize

    @torch.no_grad()
    def rotary(self, length: int) -> Tensor:
        """cos and signed sin of positions 0 to length - 1, [2, length, D], for ``rotate``."""
        positions = torch.arange(length, device=self.device)
        cos, sin = self.model.rotary_emb(self.model.norm.weight, positions[None])
        half = self.head_dim // 2
        return torch.cat([cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)])

    def forward(
        self, embeds: Tensor, rotary: Tensor, attend: Attend, *, checkpointing: bool = False
    ) -> Tensor:
        """Differentiable: embeds [N, H], rotary [2, N, D] of each token's position -> states [N, H].

        checkpointing: keep one state per layer and recompute the rest in the backward pass.
        """
        hidden = embeds
        for index, layer in enumerate(self.model.layers):
            projections = _by_modules(layer)
            if checkpointing:
                hidden = checkpoint(
                    *(self._layer, index, layer, projections, hidden, rotary, attend),
                    use_reentrant=False,
                    preserve_rng_state=False,  # no dropout
                )
            else:
                hidden = self._layer(index, layer, projections, hidden, rotary, attend)
        return self._norm(self.model.norm, hidden)

    def inference(self, rows: int) -> Forward:
        """``forward`` without gradient, in fewer and larger matrix products, with the current weights.

        rows: tokens of a typical call.
        """
        fast = [_fastest(layer, rows) for layer in self.model.layers]

        def run(embeds: Tensor, rotary: Tensor, attend: Attend) -> Tensor:
            hidden = embeds
            for index, (layer, projections) in enumerate(zip(self.model.layers, fast, strict=True)):
                hidden = self._layer(index, layer, projections, hidden, rotary, attend)
            return self._norm(self.model.norm, hidden)

        return run

    def _layer(
        self,
        index: int,
        layer: Any,
        project: _Projections,
        hidden: Tensor,
        rotary: Tensor,
        attend: Attend,
    ) -> Tensor:
        rows, heads = len(hidden), self.heads
        joined, values = project.qkv(self._norm(layer.input_layernorm, hidden))
        rotated = rotate(joined.view(rows, -1, self.head_dim), rotary)
        mixed = attend(index, rotated[:, :heads], rotated[:, heads:], values.view(rows, -1, self.head_dim))
        hidden = hidden + project.out(mixed.reshape(rows, -1))
        gate, up = project.gate_up(self._norm(layer.post_attention_layernorm, hidden))
        return hidden + project.down(silu(gate) * up)

    def _norm(self, norm: Any, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, hidden.shape[-1:], norm.weight, self.eps)


def rotate(states: Tensor, rotary: Tensor) -> Tensor:
    """Rotary positions: states [N, heads, D]; cos and signed sin [2, N, D] -> [N, heads, D]."""
    cos, sin = rotary.unsqueeze(2).unbind()
    half = states.shape[-1] // 2
    return torch.addcmul(states * cos, torch.cat([states[..., half:], states[..., :half]], dim=-1), sin)


@dataclass(frozen=True)
class _Projections:
    """The matrix products of a layer, [N, in] -> [N, out]; qkv returns queries and keys joined, and values."""

    qkv: Callable[[Tensor], Sequence[Tensor]]
    out: Callable[[Tensor], Tensor]
    gate_up: Callable[[Tensor], Sequence[Tensor]]
    down: Callable[[Tensor], Tensor]


def _by_modules(layer: Any) -> _Projections:
    """By the layer's own modules, so that gradients, hooks and adapters work."""
    attention, mlp = layer.self_attn, layer.mlp

    def qkv(states: Tensor) -> Sequence[Tensor]:
        rotated = torch.cat([attention.q_proj(states), attention.k_proj(states)], dim=-1)
        return rotated, attention.v_proj(states)

    return _Projections(
        qkv=qkv,
        out=attention.o_proj,
        gate_up=lambda states: (mlp.gate_proj(states), mlp.up_proj(states)),
        down=mlp.down_proj,
    )


def _fastest(layer: Any, rows: int) -> _Projections:
    weight = layer.mlp.down_proj.weight
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and mkldnn.is_available():
        return _packed(layer, rows)
    attention, mlp = layer.self_attn, layer.mlp
    qkv = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up = _joined(mlp.gate_proj, mlp.up_proj)
    return replace(_by_modules(layer), qkv=_cut(qkv, attention.v_proj), gate_up=_cut(gate_up, mlp.up_proj))


def _packed(layer: Any, rows: int) -> _Projections:
    """With weights copied into oneDNN's own layout; plain products of a decode step's size take 1.5 times as long."""
    attention, mlp = layer.self_attn, layer.mlp
    qkv = _for_onednn(rows, attention.q_proj, attention.k_proj, attention.v_proj)
    gate_up = _for_onednn(rows, mlp.gate_proj, mlp.up_proj)
    return _Projections(
        qkv=_cut(qkv, attention.v_proj),
        out=_for_onednn(rows, attention.o_proj),
        gate_up=_cut(gate_up, mlp.up_proj),
        down=_for_onednn(rows, mlp.down_proj),
    )


def _cut(product: Callable[[Tensor], Tensor], last: nn.Linear) -> Callable[[Tensor], Sequence[Tensor]]:
    """The columns of a product of joined layers, in two parts: those of the last layer separately."""
    width = last.out_features

    def cut(states: Tensor) -> Sequence[Tensor]:
        columns = product(states)
        return columns[:, :-width], columns[:, -width:]

    return cut


def _joined(*modules: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Linear layers with the same input as one product."""
    weight = join_parameters([module.weight for module in modules])
    bias = None if modules[0].bias is None else join_parameters([module.bias for module in modules])
    return lambda states: linear(states, weight, bias)


def _for_onednn(rows: int, *modules: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The same, with packed weights."""
    bias = None if modules[0].bias is None else torch.cat([module.bias.detach() for module in modules])
    plain = torch.cat([module.weight.detach() for module in modules])
    weight = torch.ops.mkldnn._reorder_linear_weight(plain, rows)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda states: multiply(states, weight, bias, "none", [], "")


def join_parameters(parameters: Sequence[Tensor]) -> Tensor:
    """One tensor with the rows of several parameters, which become views of it and stay parameters.

    An optimizer that updates them in place updates the joined tensor. Parameters that are joined already stay.
    """
    first = parameters[0].data
    shape = (sum(len(parameter) for parameter in parameters), *first.shape[1:])
    end = first.storage_offset()
    for parameter in parameters:
        data = parameter.data
        same = data.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same and data.storage_offset() == end and data.is_contiguous()):
            break
        end += data.numel()
    else:
        return first.as_strided(shape, first.stride(), first.storage_offset())
    joined = torch.cat([parameter.data for parameter in parameters])
    for parameter, rows in zip(parameters, joined.split([len(one) for one in parameters]), strict=True):
        parameter.data = rows
    return joined
