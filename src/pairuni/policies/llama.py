"""The layers of a ``transformers`` Llama as one function of packed tokens; the caller supplies attention.

Prefill, decoding and replay differ only in attention. Everything else (norms, projections, rotary positions, MLP) runs
here on a plain [N, H] matrix of tokens, whichever sequences they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MethodType
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

PACKED_FORWARD = "packed_forward"
"""The method of a decoder layer that computes it on packed tokens; registered with FSDP2 as a forward method."""


LLAMAS = ("llama", "emu3_text_model")
"""Values of model_type whose layers are Llama's. Emu3's differ in dropout alone, which acts in train mode only, and
policies stay in eval mode."""


class LlamaLayers:
    """The decoder layers and the final norm of a ``LlamaModel``, with the model's own weights.

    Each decoder layer gets the method ``packed_forward``, through which ``forward`` calls it: hooks on that method,
    such as those of FSDP2, see everything that trains.

    Raises ValueError for a model whose layers are not Llama's.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        if config.model_type not in LLAMAS or config.hidden_act != "silu":
            raise ValueError(
                f"The language model is a {config.model_type} with {config.hidden_act}; only Llama is supported."
            )
        self.model = model
        self.depth: int = config.num_hidden_layers
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_dim: int = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
        self.scale: float = self.head_dim**-0.5
        for layer in model.layers:
            if not hasattr(layer, PACKED_FORWARD):
                setattr(layer, PACKED_FORWARD, MethodType(_packed_forward, layer))

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
            if checkpointing:
                hidden = checkpoint(
                    *(layer.packed_forward, index, hidden, rotary, attend),
                    use_reentrant=False,
                    preserve_rng_state=False,  # no dropout
                )
            else:
                hidden = layer.packed_forward(index, hidden, rotary, attend)
        return _norm(self.model.norm, hidden)

    def inference(self, rows: int) -> Forward:
        """``forward`` without gradient, in fewer and larger matrix products, with the current weights.

        rows: tokens of a typical call.
        """
        fast = [_fastest(layer, rows) for layer in self.model.layers]

        def run(embeds: Tensor, rotary: Tensor, attend: Attend) -> Tensor:
            hidden = embeds
            for index, (layer, projections) in enumerate(zip(self.model.layers, fast, strict=True)):
                hidden = _layer_step(layer, projections, index, hidden, rotary, attend)
            return _norm(self.model.norm, hidden)

        return run


def _packed_forward(layer: Any, index: int, hidden: Tensor, rotary: Tensor, attend: Attend) -> Tensor:
    """One decoder layer of packed tokens, by its own modules: [N, H] -> [N, H]."""
    return _layer_step(layer, _by_modules(layer), index, hidden, rotary, attend)


def _layer_step(
    layer: Any, project: _Projections, index: int, hidden: Tensor, rotary: Tensor, attend: Attend
) -> Tensor:
    rows, dim = len(hidden), layer.self_attn.head_dim
    joined, values = project.qkv(_norm(layer.input_layernorm, hidden))
    rotated = rotate(joined.view(rows, -1, dim), rotary)
    values = values.view(rows, -1, dim)
    heads = rotated.shape[1] - values.shape[1]
    mixed = attend(index, rotated[:, :heads], rotated[:, heads:], values)
    hidden = hidden + project.out(mixed.reshape(rows, -1))
    gate, up = project.gate_up(_norm(layer.post_attention_layernorm, hidden))
    return hidden + project.down(silu(gate) * up)


def _norm(norm: Any, hidden: Tensor) -> Tensor:
    return rms_norm(hidden, hidden.shape[-1:], norm.weight, norm.variance_epsilon)


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
    if _packs(layer.mlp.down_proj.weight):
        return _packed(layer, rows)
    attention, mlp = layer.self_attn, layer.mlp
    project = _by_modules(layer)
    if (qkv := _joined(attention.q_proj, attention.k_proj, attention.v_proj)) is not None:
        project = replace(project, qkv=_cut(qkv, attention.v_proj))
    if (gate_up := _joined(mlp.gate_proj, mlp.up_proj)) is not None:
        project = replace(project, gate_up=_cut(gate_up, mlp.up_proj))
    return project


def _packs(weight: Tensor) -> bool:
    """Whether decoding copies such weights into oneDNN's own layout."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and mkldnn.is_available()


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


def _joined(*modules: nn.Linear) -> Callable[[Tensor], Tensor] | None:
    """Linear layers with the same input as one product, if their weights are adjacent in memory."""
    weight = adjacent_rows([module.weight for module in modules])
    if modules[0].bias is None:
        return None if weight is None else lambda states: linear(states, weight)
    bias = adjacent_rows([module.bias for module in modules])
    return None if weight is None or bias is None else lambda states: linear(states, weight, bias)


def _for_onednn(rows: int, *modules: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The same, with packed weights."""
    bias = None if modules[0].bias is None else torch.cat([module.bias.detach() for module in modules])
    plain = torch.cat([module.weight.detach() for module in modules])
    weight = torch.ops.mkldnn._reorder_linear_weight(plain, rows)
    multiply = torch.ops.mkldnn._linear_pointwise
    return lambda states: multiply(states, weight, bias, "none", [], "")


def place_for_decoding(model: Any) -> None:
    """Place the weights of projections with the same input next to each other, so that decoding joins them.

    The layers get new parameters; call this before anything holds the old ones. Decoding works without it, in more
    products.
    """
    for layer in model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        if mlp.down_proj.weight.is_meta or _packs(mlp.down_proj.weight):
            continue
        for modules in ((attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj)):
            for name in ("weight", "bias"):
                parameters = [getattr(module, name) for module in modules]
                if parameters[0] is None or adjacent_rows(parameters) is not None:
                    continue
                joined = torch.cat([parameter.detach() for parameter in parameters])
                rows = joined.split([len(parameter) for parameter in parameters])
                for module, parameter, own in zip(modules, parameters, rows, strict=True):
                    setattr(module, name, nn.Parameter(own, requires_grad=parameter.requires_grad))


@torch.no_grad()
def adjacent_rows(parameters: Sequence[Tensor]) -> Tensor | None:
    """One tensor that is a view of the rows of several, if they follow each other in memory."""
    first = parameters[0]
    end = first.storage_offset()
    for one in parameters:
        same = one.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same and one.storage_offset() == end and one.is_contiguous()):
            return None
        end += one.numel()
    shape = (sum(len(one) for one in parameters), *first.shape[1:])
    return first.detach().as_strided(shape, first.stride(), first.storage_offset())
