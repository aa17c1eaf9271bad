"""Models and data sets of the Hugging Face hub: one request tells whether they can be had, before anything loads.

``from_pretrained`` asks the hub for each file and repeats each request for half a minute when there is no network.
Here a repository is downloaded once, as a snapshot, and everything is then loaded from its folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

TEXT_FILES = ("*.json", "*.txt", "*.jinja", "*.model")
"""Configuration, tokenizers, preprocessing."""
WEIGHT_FILES = ("model.safetensors", "model-*-of-*.safetensors")
"""Weights under the names that transformers looks for; not the copies for other libraries."""

_SECONDS = 10.0
_HIGHEST_LEVEL = ("*/*",)


def model_folder(
    name: str | Path, *, files: Sequence[str] = (*TEXT_FILES, *WEIGHT_FILES), kind: str = "model"
) -> Path:
    """The folder of a model: ``name`` itself where it is a folder, else a snapshot of that hub repository.

    files: patterns of file names at the repository's highest level. A cached snapshot is used when the hub
    cannot be reached or HF_HUB_OFFLINE is set. kind: what the model is, for the error, such as "image encoder".
    Raises ValueError with one sentence when there is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(name, Path) or not _may_be_repository(name):
        raise ValueError(f"there is no folder {name}; give the folder of the {kind} or a hub name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(
            snapshot_download(
                name, allow_patterns=list(files), ignore_patterns=list(_HIGHEST_LEVEL), etag_timeout=_SECONDS
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(_fault(name, kind, error)) from error


def hub_file(repository: str, file: str, *, kind: str) -> Path:
    """One file of a hub repository, downloaded or from the cache. Raises ValueError with one sentence."""
    path = model_folder(repository, files=(file,), kind=kind) / file
    if not path.is_file():
        raise ValueError(f"the {kind} {repository} has no file {file} in the local cache or on the hub")
    return path


def check_data_set(name: str) -> None:
    """Raise ValueError, with one sentence, when the hub does not give the data set ``name``.

    A local folder is passed, and so is every name when HF_HUB_OFFLINE is set: then ``datasets`` looks into its cache.
    """
    if Path(name).expanduser().exists() or offline():
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(name, timeout=_SECONDS)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ValueError(_fault(name, "data set", error)) from error
    except Exception as error:
        if not _is_transport_error(error):
            raise
        raise ValueError(_fault(name, "data set", error)) from error


def offline() -> bool:
    """Whether the user has told the hub's client to make no request."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _may_be_repository(name: str) -> bool:
    return name.count("/") <= 1 and not name.startswith((".", "/", "~")) and bool(name.strip())


def _is_transport_error(error: BaseException) -> bool:
    """Errors of the HTTP library, which changes with the hub's client: no address, no route, no answer in time."""
    return type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore", "httpcore2", "requests"}


def _fault(name: str, kind: str, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return f"the {kind} {name} is gated: accept its terms on the hub, then run hf auth login"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no {kind} {name}, or it is private: check the name, or run hf auth login"
    if isinstance(error, HFValidationError):
        return f"there is no folder {name}, and it is not a name that the hub could have; check the {kind}'s name"
    if offline():
        return (
            f"the {kind} {name} is not in the local cache, and HF_HUB_OFFLINE is set: "
            "download it once with the hub, or give a folder"
        )
    cause: BaseException = error
    while cause.__cause__ is not None and not _is_transport_error(cause):
        cause = cause.__cause__
    reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return (
        f"the {kind} {name} is not in the local cache, and the hub cannot be reached ({reason}): "
        "connect once, or give a folder"
    )
