"""Commands that use one model: generate and edit images, answer, convert, export, push."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from pairuni.config import AnswerSettings, DrawSettings, EditSettings
from pairuni.console.counts import counted
from pairuni.distributed.shares import refuse_several
from pairuni.io.files import atomic_write
from pairuni.io.images import IMAGE_SUFFIXES, load_image
from pairuni.io.locks import target_lock

if TYPE_CHECKING:
    from pairuni.sharing.folder import Sharing


def draw(settings: DrawSettings) -> list[Path]:
    """Generate images of a prompt and write them to ``out``; several are named out-1, out-2, ..."""
    out, count = settings.out, settings.count
    _check_target(out)
    from pairuni.runs.models import load_model

    with target_lock(out, "draw"):
        policy = load_model(settings.model, device=settings.device, dtype=settings.dtype)
        images = policy.generate_images(
            settings.prompt,
            count,
            guidance=settings.guidance,
            temperature=settings.temperature,
            seed=settings.seed,
        )
        paths = [out] if count == 1 else [out.with_stem(f"{out.stem}-{n}") for n in range(1, count + 1)]
        for path, made in zip(paths, images, strict=True):
            _save(made, path)
    return paths


def edit(settings: EditSettings) -> Path:
    """Edit an image by an instruction and write it to ``out``; a model that cannot edit is refused before it loads."""
    out = settings.out
    _check_target(out)
    image = _load(settings.image)
    from pairuni.runs.models import check_edits, load_model

    check_edits(settings.model)
    with target_lock(out, "edit"):
        policy = load_model(settings.model, device=settings.device, dtype=settings.dtype)
        edited = policy.edit_image(
            image,
            settings.instruction,
            guidance=settings.guidance,
            image_guidance=settings.image_guidance,
            temperature=settings.temperature,
            seed=settings.seed,
        )
        _save(edited, out)
    return out


def answer(settings: AnswerSettings) -> str:
    """Answer a question about one or several images with greedy decoding.

    A model that takes one image a question is refused several before it loads.
    """
    if Path(settings.question).suffix.lower() in IMAGE_SUFFIXES and Path(settings.question).is_file():
        raise ValueError(f"{settings.question} is an image; the question is the last argument")
    images = [_load(path) for path in settings.image]
    from pairuni.policies.requests import CannotShowSeveral
    from pairuni.runs.models import load_model, shows_several

    if len(images) > 1 and not shows_several(settings.model):
        raise CannotShowSeveral(settings.model, settings.question, len(images))
    policy = load_model(settings.model, device=settings.device, dtype=settings.dtype)
    return policy.answer(images, settings.question, max_new_tokens=settings.max_new_tokens)


def _load(path: Path) -> Image.Image:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such image")
    return load_image(path)


def _check_target(out: Path) -> None:
    if out.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"{out}: not an image file name; end it in .png, .jpg or .webp")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: no such folder to write the image to")


def _save(image: Image.Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        image.save(temporary, format=Image.registered_extensions()[path.suffix.lower()])


def export(source: Path, out: Path | None, *, base: str | None) -> str:
    """Export a checkpoint, or the newest one of a run, as a model folder; returns a message."""
    from pairuni.runs.models import export_checkpoint

    refuse_several(os.environ, "export")
    folder, checkpoint = export_checkpoint(source, out, base=base)
    return f"{folder}: the model of {checkpoint}"


def merge(source: Path, out: Path, *, base: str | None) -> str:
    """Write the model of an adapter with the adapter merged; returns a message."""
    from pairuni.runs.models import merge_adapter

    refuse_several(os.environ, "merge")
    adapter = merge_adapter(source, out, base=base)
    return f"{out}: the base model with the adapter {adapter}"


def push(source: Path, sharing: Sharing, out: Path | None, *, private: bool, unfinished: bool) -> str:
    """Push a model to the hub, or write the folder to ``out``; returns its address, or a message."""
    from pairuni.sharing.folder import folder_size
    from pairuni.sharing.push import push_model, write_model

    refuse_several(os.environ, "push")
    if out is None:
        return push_model(source, sharing, private=private, unfinished=unfinished)
    count, size = folder_size(write_model(source, sharing, out, unfinished=unfinished))
    return f"{out}: {counted(count, 'file')}, {size / 1e6:,.1f} MB, as {sharing.repo} would get them"


def convert(source: str, target: Path, layout: Literal["transformers", "original"]) -> str:
    """Convert a checkpoint; returns a message."""
    from pairuni.policies.conversion import convert_checkpoint
    from pairuni.policies.registry import resolve

    refuse_several(os.environ, "convert")
    folder = resolve(source)
    with target_lock(target, "convert"):
        report = convert_checkpoint(folder, target, layout)
    message = (
        f"{target}: {report.tensors:,} tensors, {report.parameters:,} parameters, "
        f"{report.source_layout} to {report.target_layout} layout"
    )
    if report.unused:
        message += f"; {len(report.unused)} tensors that the model does not use are kept in a separate file"
    if report.absent:
        message += "; tensors that the model does not use are missing in the source and in the result"
    return message
