"""Images of a user: where they are dropped, and what is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from pairuni.app.components import AT_ONCE, Changes, fault
from pairuni.app.drawings import DrawingFiles
from pairuni.console.sentences import EXPECTED
from pairuni.io.images import ImageError, decode, read_bytes, suffix_of

_BROWSER_SHOWS = (".jpg", ".png", ".webp", ".gif", ".bmp", ".avif")
Upload = dict[str, Any]
"""A file of a user as gradio's FileData, which gradio has checked to be in its folder of uploads."""


def picture() -> gr.Image:
    """An image of a user. Its events set preprocess = False, so that gradio does not decode it: see ``path_of``."""
    return gr.Image(
        label="Image",
        sources=["upload", "clipboard"],
        height=260,
        buttons=[],
        format="png",  # lossless, where the page shows an image that a browser could not
        elem_classes=["uploaded"],
    )


def pictures() -> gr.Gallery:
    """Images of a user in their order. Its events set preprocess = False, likewise: see ``uploads_of``."""
    return gr.Gallery(
        label="Images",
        sources=["upload", "clipboard"],
        file_types=["image"],
        height=260,
        columns=3,
        object_fit="contain",
        buttons=["fullscreen"],
        interactive=True,
        elem_classes=["uploaded", "several"],
    )


def path_of(uploaded: Upload | None) -> Path | None:
    """The file of an image that was uploaded."""
    return Path(uploaded["path"]) if uploaded and uploaded.get("path") else None


def uploads_of(shown: list[dict[str, Any]] | None) -> list[Upload]:
    """The files of ``pictures``, in order."""
    return [entry.get("image") or entry["video"] for entry in shown or []]


def opened(path: Path, name: str = "The image") -> Image.Image:
    """An uploaded image, within the limits of ``pairuni.io.images``.

    Raises ValueError, which calls the image ``name`` and not by its temporary file.
    """
    try:
        return decode(read_bytes(path)).image
    except ImageError as error:
        raise ValueError(f"{name} {error.reason}.") from None


def check_upload(image: gr.Image, refused: gr.HTML) -> None:
    """Refuse an image at once if it cannot be used, and show those that a browser does not.

    refused: gets the reason, next to the images.
    """

    def check(uploaded: Upload | None) -> Changes:
        path = path_of(uploaded)
        if path is None:
            return {refused: ""}
        try:
            found = opened(path)
        except EXPECTED as error:
            return {image: None, refused: fault(error)}
        return {refused: ""} if _browser_shows(path) else {image: found, refused: ""}

    image.upload(check, image, [image, refused], preprocess=False, **AT_ONCE)


def check_uploads(images: gr.Gallery, refused: gr.HTML, files: DrawingFiles) -> None:
    """The same for several images: those that cannot be used are named and left out."""
    checked = gr.State(frozenset[str]())

    def check(shown: list[dict[str, Any]] | None, known: frozenset[str]) -> Changes:
        uploads = uploads_of(shown)
        new = [upload for upload in uploads if upload["path"] not in known]
        if not new:  # one was removed, or this is what ``check`` itself has changed
            return {checked: frozenset(upload["path"] for upload in uploads)}
        kept: list[Upload] = []
        faults: list[str] = []
        for upload in uploads:
            path = Path(upload["path"])
            if upload not in new:
                kept.append(upload)
                continue
            try:
                found = opened(path, upload.get("orig_name") or "The image")
            except EXPECTED as error:
                faults.append(fault(error))
                continue
            kept.append(upload if _browser_shows(path) else files.upload(found))
        changed: Changes = {
            checked: frozenset(upload["path"] for upload in kept),
            refused: "".join(faults),
        }
        if kept != uploads:
            changed[images] = [{"image": upload, "caption": None} for upload in kept]
        return changed

    # upload does not tell of pasted images
    images.change(
        check,
        [images, checked],
        [images, checked, refused],
        preprocess=False,
        postprocess=False,
        trigger_mode="always_last",
        **AT_ONCE,
    )


def _browser_shows(path: Path) -> bool:
    return suffix_of(read_bytes(path)) in _BROWSER_SHOWS
