"""Pairs from raw data, with the annotator and the encoder that the settings name."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pairuni.config import PairsSettings, load_settings
from pairuni.console.progress import Stages
from pairuni.distributed.shares import refuse_several
from pairuni.io.locks import folder_lock

if TYPE_CHECKING:
    from pairuni.pairug.build import BuildSummary
    from pairuni.pairug.completion.annotator import Annotator
    from pairuni.pairug.completion.model_annotator import ModelAnnotator
    from pairuni.pairug.selection.encoders import Encoder

POLICY_ENCODER = "policy:"
"""Prefix of an encoder's name: the vision tower of the policy that follows."""


def build_pairs(
    settings: PairsSettings | str | Path,
    *,
    annotator: Annotator | None = None,
    encoder: Encoder | None = None,
) -> BuildSummary:
    """Build PairUG (arXiv:2510.25682, section 2.1) from raw data, as ``pairuni pairs build`` does.

    The pairs are written to ``pairs.jsonl`` in ``settings.out``, next to their images. The same call resumes a stopped
    build.

    settings: of the build, or its recipe, a TOML file of them. annotator: instead of the one that
    ``settings.annotator`` names, an object with the methods caption, question and verify. encoder: instead of
    ``settings.encoder``, a function from a batch of images to features [images, width].

    Raises ValueError for raw data or settings that cannot be used, FileNotFoundError for inputs that do not exist, and
    CompletionPaused when a budget is used up or a batch is to be answered.
    """
    if not isinstance(settings, PairsSettings):
        settings = load_settings(PairsSettings, settings)
    refuse_several(os.environ, "pairs build")
    check_inputs(settings)

    from pairuni.pairug.build import build_pairs as build
    from pairuni.pairug.completion.annotator import make_annotator
    from pairuni.pairug.scale.ray_engine import RayEngine
    from pairuni.pairug.scale.workers import DistributedStages, check_distributed

    check_distributed(settings)
    if settings.engine == "ray" and not (annotator is None and encoder is None):
        raise ValueError(
            "the workers of engine = ray make annotator and encoder by name: set them in the settings"
        )
    chosen: Annotator | ModelAnnotator | None = annotator
    if annotator is None and settings.completed is None:
        chosen = make_annotator(settings.annotator, settings.completion)
    make = partial(make_encoder, settings) if encoder is None else lambda: encoder
    with ExitStack() as opened:
        opened.enter_context(folder_lock(settings.out, "pairs build"))
        stages = None
        if settings.engine == "ray":
            engine = opened.enter_context(RayEngine(settings.workers, gpus=settings.worker_gpus))
            stages = DistributedStages(settings, engine, make)
        progress = opened.enter_context(Stages())
        return build(settings, annotator=chosen, make_encoder=make, stages=stages, advance=progress.advance)


def check_inputs(settings: PairsSettings) -> None:
    """Check that the raw data exists, before heavy imports. Raises FileNotFoundError or ValueError."""
    if settings.completed is not None:
        return
    from pairuni.pairug.sources.inputs import parts_of

    for given in (*settings.understanding, *settings.generation):
        parts_of(given)


def make_encoder(settings: PairsSettings) -> Encoder:
    """The image encoder that the settings name. Raises ValueError if it cannot be loaded."""
    from pairuni.devices import resolve_device

    device, name = settings.device, settings.encoder
    if device == "auto":
        device = str(resolve_device(device))
    if not name.startswith(POLICY_ENCODER):
        from pairuni.pairug.selection import encoders

        return encoders.make_encoder(name, device, settings.dtype)
    from pairuni.policies.requests import NoVisionTower
    from pairuni.runs.models import load_model

    policy = load_model(name.removeprefix(POLICY_ENCODER), device=device)
    if not policy.has_vision_tower:
        raise NoVisionTower(policy.name)
    return lambda images: policy.image_features(images).numpy()
