"""Teacher forcing for autoregressive policies: states and log-probs of given tokens, with gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def last_states(backbone: nn.Module, sequences: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Hidden states at the last ``counts[i]`` positions of each sequence of embeddings [L_i, H], one forward.

    Returns [sum of counts, H]. Sequences are padded on the right, where causal attention never looks, so that
    no mask is needed and the fused causal kernel runs.
    """
    padded = nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    states = backbone(inputs_embeds=padded, use_cache=False).last_hidden_state
    return torch.cat(
        [
            states[row, len(sequence) - count : len(sequence)]
            for row, (sequence, count) in enumerate(zip(sequences, counts, strict=True))
        ]
    )


def token_log_probs(logits: Tensor, tokens: Tensor, temperature: Tensor) -> Tensor:
    """float32 log softmax(logits / temperature) at the tokens. [N, V], [N], [N] -> [N]."""
    scaled = logits.float() / temperature.unsqueeze(1)
    return torch.log_softmax(scaled, dim=-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
