"""Models and data sets from the Hugging Face hub: availability is known after one request, before anything loads.

``from_pretrained`` requests each file and, without a network, retries each request for half a minute. Here a
repository is downloaded once, as a snapshot, and everything is then loaded from its folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pairuni.io.text import first_line

TEXT_FILES = ("*.json", "*.txt", "*.jinja", "*.model")
"""Configuration, tokenizers, preprocessing."""
WEIGHT_FILES = ("model.safetensors", "model-*-of-*.safetensors")
"""Weights under the names that transformers looks for, without copies for other libraries."""

_SECONDS = 10.0


def model_folder(
    name: str | Path,
    *,
    files: Sequence[str] = (*TEXT_FILES, *WEIGHT_FILES),
    subfolder: str | None = None,
    kind: str = "model",
) -> Path:
    """The folder of a model: ``name`` itself if it is a folder, else a snapshot of that hub repository.

    files: patterns of file names at the top level of the repository, or in its ``subfolder``. kind: what the model is,
    for the error message, such as "image encoder". A cached snapshot is used if the hub cannot be reached or
    HF_HUB_OFFLINE is set. Raises ValueError if there is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(name, Path) or not _may_be_repository(name):
        raise ValueError(f"there is no folder {name}; pass the folder of the {kind} or a hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    inside = "" if subfolder is None else f"{subfolder}/"
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=[f"{inside}{pattern}" for pattern in files],
                ignore_patterns=[f"{inside}*/*"],
                etag_timeout=_SECONDS,
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(_fault(name, kind, error)) from error


def hub_file(repository: str, file: str, *, kind: str) -> Path:
    """One file of a hub repository, downloaded or from the cache. Raises ValueError if there is none."""
    path = model_folder(repository, files=(file,), kind=kind) / file
    if not path.is_file():
        raise ValueError(f"the {kind} {repository} has no file {file} in the local cache or on the hub")
    return path


def check_data_set(name: str) -> None:
    """Raise ValueError if the hub does not provide the data set ``name``.

    Local folders are not checked, and nothing is if HF_HUB_OFFLINE is set: ``datasets`` then uses its cache.
    """
    if Path(name).expanduser().exists() or offline():
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(name, timeout=_SECONDS)
    except Exception as error:
        expected = isinstance(error, HfHubHTTPError | HFValidationError | OSError)
        if not expected and not is_transport_error(error):
            raise
        raise ValueError(_fault(name, "data set", error)) from error


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids requests to the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _may_be_repository(name: str) -> bool:
    return name.count("/") <= 1 and not name.startswith((".", "/", "~")) and bool(name.strip())


def is_transport_error(error: BaseException) -> bool:
    """Whether the HTTP library raised it (no address, no route, timeout); the hub's client may use any of these."""
    return type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2", "requests"}


def _fault(name: str, kind: str, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return f"the {kind} {name} is gated: accept its terms on the hub, then run hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no folder {name}, and the hub has no {kind} of that name, or it is private: "
            "check the name, or run hf auth login"
        )
    if isinstance(error, HFValidationError):
        return f"there is no folder {name}, and it is not a valid hub name; check the {kind}'s name"
    if offline():
        return (
            f"the {kind} {name} is neither a folder here nor in the local cache, and HF_HUB_OFFLINE is set: "
            "download it once while online, or pass a local folder"
        )
    cause: BaseException = error
    while cause.__cause__ is not None and not is_transport_error(cause):
        cause = cause.__cause__
    return (
        f"the {kind} {name} is neither a folder here nor in the local cache, and the hub cannot be reached "
        f"({first_line(cause)}): go online once, or pass a local folder"
    )
