"""Slow oracles of Janus: sampling without cache, padding or batch; the VQ and the vision tower step by step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import JanusForConditionalGeneration


def image_logits(model: JanusForConditionalGeneration, prompt: Tensor, tokens: list[int]) -> Tensor:
    """Logits [V] of the image token that follows the prompt and the tokens."""
    embeds = model.get_input_embeddings()(prompt)
    if tokens:
        embeds = torch.cat([embeds, model.prepare_embeddings_for_image_generation(torch.tensor(tokens))])
    states = model.model.language_model(inputs_embeds=embeds[None], use_cache=False).last_hidden_state
    return model.model.generation_head(states[0, -1]).float()


def unconditional(prompt: Tensor, pad: int) -> Tensor:
    """All tokens but the first and the last replaced, as in the official inference code."""
    masked = prompt.clone()
    masked[1:-1] = pad
    return masked


@torch.no_grad()
def draw_image(
    model: JanusForConditionalGeneration,
    prompt: Tensor,
    *,
    pad: int,
    steps: int,
    temperature: float,
    guidance: float,
    noise: Tensor,
) -> tuple[list[int], list[float], list[float]]:
    """Tokens, their log-probs under the guided logits, and under the conditional logits."""
    tokens: list[int] = []
    guided_log_probs, conditional_log_probs = [], []
    for step in range(steps):
        conditional = image_logits(model, prompt, tokens)
        other = image_logits(model, unconditional(prompt, pad), tokens)
        guided = other + guidance * (conditional - other)
        log_probs = torch.log_softmax(guided / temperature, dim=-1)
        cumulative = np.cumsum(np.exp(log_probs.double().numpy()))
        token = int(np.nonzero(cumulative > float(noise[step]) * cumulative[-1])[0][0])
        guided_log_probs.append(float(log_probs[token]))
        conditional_log_probs.append(float(torch.log_softmax(conditional / temperature, dim=-1)[token]))
        tokens.append(token)
    return tokens, guided_log_probs, conditional_log_probs


@torch.no_grad()
def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest unit-length code by explicit distances. [N, D], [V, D] -> [N]."""
    codes = []
    for latent in latents:
        unit = latent / latent.norm()
        distances = [float(((unit - code / code.norm()) ** 2).sum()) for code in codebook]
        codes.append(int(np.argmin(distances)))
    return torch.tensor(codes)


@torch.no_grad()
def siglip(tensors: dict[str, Tensor], pixels: Tensor, *, heads: int, patch: int) -> Tensor:
    """The original vision tower from its original tensors: [N, 3, S, S] -> [N, T, D]."""
    root = "vision_model.vision_tower."

    def linear(states: Tensor, name: str) -> Tensor:
        return states @ tensors[f"{root}{name}.weight"].T + tensors[f"{root}{name}.bias"]

    def norm(states: Tensor, name: str) -> Tensor:
        weight, bias = tensors[f"{root}{name}.weight"], tensors[f"{root}{name}.bias"]
        return torch.nn.functional.layer_norm(states, weight.shape, weight, bias, eps=1e-6)

    kernel, bias = tensors[f"{root}patch_embed.proj.weight"], tensors[f"{root}patch_embed.proj.bias"]
    states = torch.nn.functional.conv2d(pixels, kernel, bias, stride=patch).flatten(2).transpose(1, 2)
    states = states + tensors[f"{root}pos_embed"]
    blocks = {name.split(".")[3] for name in tensors if name.startswith(f"{root}blocks.")}
    for block in sorted(blocks, key=int):
        count, length, width = states.shape
        qkv = linear(norm(states, f"blocks.{block}.norm1"), f"blocks.{block}.attn.qkv")
        queries, keys, values = qkv.reshape(count, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(queries @ keys.transpose(-2, -1) * (width // heads) ** -0.5, dim=-1)
        mixed = (weights @ values).transpose(1, 2).reshape(count, length, width)
        states = states + linear(mixed, f"blocks.{block}.attn.proj")
        inner = torch.nn.functional.gelu(
            linear(norm(states, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1")
        )
        states = states + linear(inner, f"blocks.{block}.mlp.fc2")
    return norm(states, "norm")
