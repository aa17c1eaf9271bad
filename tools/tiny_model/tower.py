"""Stage 1: the vision tower learns to classify digit and colour in each of the four places."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pairuni.digits.scans import load_scans
from pairuni.digits.scenes import COLOURS, random_scene
from tools.pretraining.data import pixel_values_of, scene_batches
from tools.pretraining.places import NOTHING, place_targets
from tools.pretraining.schedule import Report, one_cycle


class PlaceReader(nn.Module):
    """The tower with a temporary head that classifies digit and colour from the patches of each place."""

    def __init__(self, tower: nn.Module, width: int) -> None:
        super().__init__()
        self.tower = tower
        self.digit = nn.Linear(width, NOTHING + 1)
        self.colour = nn.Linear(width, len(COLOURS))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> digit logits [N, 4, 11] and colour logits [N, 4, 4], places in reading order."""
        patches = self.tower(pixel_values).last_hidden_state
        side = round(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (side, side))
        places = F.adaptive_avg_pool2d(grid, 2).flatten(2).transpose(1, 2)
        return self.digit(places), self.colour(places)


def train_tower(
    tower: nn.Module, width: int, *, steps: int, batch: int, seed: int, report: Report
) -> dict[str, float]:
    """Train the tower in place; returns held-out accuracies (of things, and of complete scenes)."""
    rng = np.random.default_rng(seed)
    reader = PlaceReader(tower, width)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = one_cycle(optimizer, steps)
    batches = scene_batches(rng, batch, (1, 2, 3, 4))
    for step in range(steps):
        scenes, pixel_values = next(batches)
        digits, colours = place_targets(scenes)
        digit_logits, colour_logits = reader(pixel_values)
        loss = F.cross_entropy(digit_logits.flatten(0, 1), digits.flatten(), label_smoothing=0.05)
        loss = loss + F.cross_entropy(colour_logits.flatten(0, 1), colours.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report("tower", step, steps, {"loss": loss.item()})
    return _held_out_accuracy(reader)


@torch.no_grad()
def _held_out_accuracy(reader: PlaceReader, count: int = 500) -> dict[str, float]:
    rng = np.random.default_rng(99)
    scenes = [random_scene(rng, "held-out") for _ in range(count)]
    digits, colours = place_targets(scenes)
    digit_logits, colour_logits = reader(pixel_values_of(scenes, rng, load_scans("held-out")))
    right = digit_logits.argmax(-1) == digits
    right &= (colour_logits.argmax(-1) == colours) | (digits == NOTHING)
    filled = digits != NOTHING
    return {"thing": right[filled].float().mean().item(), "scene": right.all(1).float().mean().item()}
