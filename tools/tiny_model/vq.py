"""Stage 2: the image tokenizer (VQ) learns to encode an image as 16 codes and to reconstruct it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.janus.modeling_janus import JanusVQVAE

from tools.pretraining.data import scene_batches
from tools.pretraining.schedule import Report, one_cycle


def quantise(vqmodel: JanusVQVAE, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest codes by cosine, as in Janus-Pro's tokenizer: both sides L2-normalised.

    Returns the continuous unit vectors and their nearest codes, both [N, h, w, d], and the ids [N, h, w].
    """
    latent = vqmodel.quant_conv(vqmodel.encoder(pixel_values)).permute(0, 2, 3, 1)
    latent = F.normalize(latent, dim=-1)
    codebook = F.normalize(vqmodel.quantize.embedding.weight, dim=-1)
    ids = (latent.detach() @ codebook.detach().T).argmax(-1)
    return latent, codebook[ids], ids


def reconstruct(vqmodel: JanusVQVAE, codes: Tensor) -> Tensor:
    """Pixel values [N, 3, S, S] of codes [N, h, w, d]."""
    return vqmodel.decoder(vqmodel.post_quant_conv(codes.permute(0, 3, 1, 2)))


def train_vq(vqmodel: JanusVQVAE, *, steps: int, batch: int, seed: int, report: Report) -> None:
    """Train the tokenizer in place; afterwards, the rows of its codebook have unit length."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    embedding = vqmodel.quantize.embedding
    with torch.no_grad():
        embedding.weight.normal_(generator=generator)
    optimizer = torch.optim.AdamW(vqmodel.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = one_cycle(optimizer, steps)
    batches = scene_batches(rng, batch, (2, 3, 4))
    used = torch.zeros(embedding.num_embeddings)
    for step in range(steps):
        _, pixel_values = next(batches)
        latent, codes, ids = quantise(vqmodel, pixel_values)
        restored = reconstruct(vqmodel, latent + (codes - latent).detach())
        error = F.mse_loss(restored, pixel_values) + 0.3 * F.l1_loss(restored, pixel_values)
        commitment = F.mse_loss(latent, codes.detach())
        movement = F.mse_loss(codes, latent.detach())
        loss = 10 * error + 2 * commitment + 8 * movement
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vqmodel.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        used += torch.bincount(ids.flatten(), minlength=len(used))
        if step % 50 == 49:
            if step < 0.7 * steps:
                _revive(embedding.weight, used, latent.detach().flatten(0, 2), generator)
            share = (used > 0).float().mean().item()
            used.zero_()
            report("vq", step, steps, {"mse": F.mse_loss(restored, pixel_values).item(), "codes_used": share})
    with torch.no_grad():
        embedding.weight.copy_(F.normalize(embedding.weight, dim=-1))


@torch.no_grad()
def _revive(codebook: Tensor, used: Tensor, latent: Tensor, generator: torch.Generator) -> None:
    """Move unused codes onto vectors of the last batch."""
    dead = torch.nonzero(used == 0).flatten()
    chosen = torch.randint(len(latent), (len(dead),), generator=generator)
    codebook[dead] = latent[chosen]
