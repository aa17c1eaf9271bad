"""Stage 1: the image tokenizer (VQ) learns to encode an image as 16 codes and to reconstruct it.

The codes are all that the language model sees of a picture. A temporary head therefore reads digit and colour of each
place from them, so that pictures of the same digit get similar codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairuni.digits.detectors import evaluation_detector
from pairuni.digits.scenes import COLOURS, random_scene, render_image
from pairuni.policies.lumina_dimoo.ids import TokenIds
from pairuni.policies.lumina_dimoo.vq import LuminaVQ
from tools.pretraining.autocast import low_precision
from tools.pretraining.data import scene_batches
from tools.pretraining.places import NOTHING, place_targets
from tools.pretraining.schedule import Report, one_cycle

_DECAY = 0.98
"""Share of the moving averages that each step keeps."""
_DEAD = 0.1
"""A code with fewer vectors per step, on average, is moved."""


class CodeReader(nn.Module):
    """Classifies digit and colour of each place from the vectors of its 2 x 2 codes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(4 * width, 128)
        self.digit = nn.Linear(128, NOTHING + 1)
        self.colour = nn.Linear(128, len(COLOURS))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """[N, d, 4, 4] -> digit logits [N, 4, 11] and colour logits [N, 4, 4], places in reading order."""
        places = F.unfold(vectors, kernel_size=2, stride=2).transpose(1, 2)
        hidden = F.silu(self.hidden(places))
        return self.digit(hidden), self.colour(hidden)


class Codebook:
    """Moving averages of the latent vectors of each code (VQ-VAE, arXiv:1711.00937, appendix A.1)."""

    def __init__(self, weight: Tensor, seed: int) -> None:
        self.weight = weight
        self.counts = torch.ones(len(weight))
        self.sums = weight.detach().clone()
        self.generator = torch.Generator().manual_seed(seed)

    def nearest(self, latents: Tensor) -> Tensor:
        """Ids [...] of the codes nearest to [..., d]."""
        flat = latents.detach().float().reshape(-1, latents.shape[-1])
        return torch.cdist(flat, self.weight).argmin(dim=1).view(latents.shape[:-1])

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """Place the codes on random ones of the vectors [N, d]."""
        self.weight.copy_(self._some(latents, len(self.weight)))
        self.sums, self.counts = self.weight.clone(), torch.ones(len(self.weight))

    @torch.no_grad()
    def update(self, latents: Tensor, ids: Tensor, revive: bool) -> None:
        """Move each code towards the mean of its vectors [N, d], and, with ``revive``, dead codes onto some vector."""
        counts = torch.bincount(ids, minlength=len(self.counts)).float()
        self.counts.lerp_(counts, 1 - _DECAY)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, ids, latents), 1 - _DECAY)
        if revive and len(dead := (self.counts < _DEAD).nonzero().flatten()):
            self.sums[dead], self.counts[dead] = self._some(latents, len(dead)), 1.0
        self.weight.copy_(self.sums / self.counts[:, None].clamp(min=1e-6))

    @property
    def used(self) -> float:
        """The share of codes that are alive."""
        return (self.counts >= _DEAD).float().mean().item()

    def _some(self, latents: Tensor, count: int) -> Tensor:
        return latents[torch.randint(len(latents), (count,), generator=self.generator)]


def train_vq(
    vq: Any, *, steps: int, batch: int, learning_rate: float, reading: float, seed: int, report: Report
) -> dict[str, float]:
    """Train a ``VQModel`` in place; returns held-out shares of images that the detector reads right.

    reading: weight of the loss of the temporary head.
    """
    rng = np.random.default_rng(seed)
    vq.to(memory_format=torch.channels_last)
    reader = CodeReader(vq.quantize.vq_embed_dim)
    weight = vq.quantize.embedding.weight.requires_grad_(False)
    codebook = Codebook(weight, seed)
    trained = [p for p in [*vq.parameters(), *reader.parameters()] if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = one_cycle(optimizer, steps)
    batches = scene_batches(rng, batch, (1, 2, 3, 4, 4))
    free = steps // 10
    recent: list[Tensor] = []
    for step in range(steps):
        scenes, pixels = next(batches)
        with low_precision():
            latents = vq.quant_conv(vq.encoder((pixels + 1) / 2)).float().permute(0, 2, 3, 1)
            flat = latents.detach().flatten(0, 2)
            if step < free:
                chosen = latents
                recent = [*recent[-20:], flat]
            else:
                if step == free:
                    codebook.start(torch.cat(recent))
                ids = codebook.nearest(latents)
                codebook.update(flat, ids.flatten(), revive=step < 0.8 * steps)
                codes = weight[ids].clone()
                chosen = latents + (codes - latents).detach()
            vectors = chosen.permute(0, 3, 1, 2)
            restored = vq.decoder(vq.post_quant_conv(vectors)).float() * 2 - 1
            digits, colours = reader(vectors)
        error = F.mse_loss(restored, pixels) + 0.3 * F.l1_loss(restored, pixels)
        true_digits, true_colours = place_targets(scenes)
        read = F.cross_entropy(digits.float().flatten(0, 1), true_digits.flatten(), label_smoothing=0.05)
        read = read + F.cross_entropy(colours.float().flatten(0, 1), true_colours.flatten())
        loss = 10 * error + reading * read
        if step >= free:
            loss = loss + F.mse_loss(latents, codes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        report("vq", step, steps, {"error": error.item(), "read": read.item(), "used": codebook.used})
    return reading_shares(vq)


def reading_shares(vq: Any, count: int = 500) -> dict[str, float]:
    """Shares of held-out scenes that the evaluation detector reads in the original and in the restored image."""
    rng = np.random.default_rng(99)
    scenes = [random_scene(rng, "held-out") for _ in range(count)]
    images = [render_image(scene, rng) for scene in scenes]
    codec = LuminaVQ(vq, TokenIds(codebook=len(vq.quantize.embedding.weight)))
    found = {}
    for name, shown in (("original", images), ("restored", codec.decode(codec.encode(images)))):
        readings = evaluation_detector().read(shown)
        found[name] = sum(one.scene == scene for one, scene in zip(readings, scenes, strict=True)) / count
    return found
