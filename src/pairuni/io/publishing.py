"""Uploading a prepared folder to the Hugging Face hub; what the hub or the network refuses is one sentence."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pairuni.io.hub import is_transport_error, offline
from pairuni.io.markdown import split_front_matter
from pairuni.io.text import first_line, read_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Kind = Literal["model", "dataset"]

CARD = "README.md"
TAG = "pairuni"
"""Tag in the front matter of every card of ours. A repository whose card lacks it is not changed."""

_NOUNS: dict[Kind, str] = {"model": "model", "dataset": "data set"}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_MOST = 96
_UNTOUCHED = re.compile(r"\.gitattributes|\.gitignore|LICEN[CS]E(\..*)?|README\.md", re.I)
"""Files of a repository that was created on the hub's page and is still empty."""


def check_name(repo: str) -> None:
    """Raise ValueError unless ``repo`` is a possible hub name OWNER/NAME."""
    name = repo.partition("/")[2]
    if (
        not _NAME.fullmatch(repo)
        or len(repo) > _MOST
        or "--" in repo
        or ".." in repo
        or name.endswith((".git", ".ipynb"))
        or name[-1] in "-."
    ):
        raise ValueError(
            f"{repo!r} is not a hub name; give OWNER/NAME of letters, digits, '-', '_' and '.', such as me/my-model"
        )


def check_access(api: HfApi | None = None) -> None:
    """Raise ValueError if there is no access token, or HF_HUB_OFFLINE forbids requests; nothing is sent."""
    from huggingface_hub import get_token

    if offline():
        raise ValueError(
            "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it, or write a folder with --out"
        )
    if not ((api is not None and api.token) or get_token()):
        raise ValueError("there is no access token for the hub: run hf auth login, or set HF_TOKEN")


def publish_folder(
    folder: Path,
    repo: str,
    *,
    kind: Kind,
    message: str,
    mark: str,
    stale: Sequence[str],
    private: bool = False,
    revision: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload a folder with a card (README.md) to the repository ``repo``, which is created if it is missing.

    mark: line of a card that was generated; such a card does not replace one on the hub that its owner wrote. stale:
    patterns of remote files that are deleted unless the folder has them. revision: branch, created if it is missing.
    Files that the hub has already are not sent again, so an interrupted upload can be repeated. Returns the URL.

    Raises ValueError for a card without our tag, without a token, for a repository that pairuni did not write, and for
    ``private`` when the repository is public; OSError for what the hub refuses and if it cannot be reached.
    """
    check_name(repo)
    check_access(api)
    card = read_text(folder / CARD)
    if not _has_tag(card):
        raise ValueError(
            f"{CARD} has no tag {TAG!r} in its front matter, by which a later push knows {repo}; add it under tags:"
        )
    from huggingface_hub import HfApi

    api = api or HfApi()
    try:
        owners_card = _prepare(api, repo, kind, mark, private=private, revision=revision)
        if not owners_card or mark not in card:
            # first: it marks the repository as ours, so that a push that is cut short can be repeated
            api.upload_file(
                path_or_fileobj=folder / CARD,
                path_in_repo=CARD,
                repo_id=repo,
                repo_type=kind,
                revision=revision,
                commit_message=f"Card: {message}",
            )
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type=kind,
            revision=revision,
            commit_message=message,
            delete_patterns=list(stale),
            ignore_patterns=[CARD],
        )
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise OSError(_fault(repo, refusal)) from error
    prefix = "" if kind == "model" else f"{kind}s/"
    branch = f"/tree/{revision}" if revision else ""
    return f"{api.endpoint}/{prefix}{repo}{branch}"


def _prepare(api: HfApi, repo: str, kind: Kind, mark: str, *, private: bool, revision: str | None) -> bool:
    """Create repository and branch where they are missing; returns whether the owner wrote the card there."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        found = api.repo_info(repo, repo_type=kind)
    except RepositoryNotFoundError:
        api.create_repo(repo, private=private or None, repo_type=kind, exist_ok=True)
        found = None
    if found is not None and private and not found.private:
        raise ValueError(f"the {_NOUNS[kind]} {repo} exists and is public; make it private on the hub first")
    own_card = found is not None and _owners_card(api, repo, kind, mark, None)
    if revision is not None:
        api.create_branch(repo, repo_type=kind, branch=revision, exist_ok=True)
        return _owners_card(api, repo, kind, mark, revision)
    return own_card


def _owners_card(api: HfApi, repo: str, kind: Kind, mark: str, revision: str | None) -> bool:
    """Whether the card there is the owner's. Raises ValueError for a repository that pairuni did not write."""
    files = api.list_repo_files(repo, repo_type=kind, revision=revision)
    empty = all(_UNTOUCHED.fullmatch(name) for name in files)
    text = ""
    if CARD in files:
        with tempfile.TemporaryDirectory() as place:  # not the cache, where others read models
            text = read_text(
                Path(api.hf_hub_download(repo, CARD, repo_type=kind, revision=revision, local_dir=place))
            )
    if not empty and not _has_tag(text):
        raise ValueError(
            f"the {_NOUNS[kind]} {repo} exists and was not pushed by pairuni (its card has no tag {TAG!r}); choose "
            "another name, or delete it on the hub"
        )
    return not empty and mark not in text


def _has_tag(card: str) -> bool:
    return re.search(rf"^\s*- {TAG}\s*$", split_front_matter(card)[0], re.M) is not None


def _refusal(error: Exception) -> BaseException | None:
    """The error of the network or the hub behind an error of its client, which may wrap it; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) or is_transport_error(cause):
            return cause
        cause = cause.__cause__
    return error if isinstance(error, RuntimeError) else None  # of the client for large files


def _fault(repo: str, error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401:
        return f"the push to {repo} failed: the hub does not accept the access token; run hf auth login"
    if status == 403:
        owner = repo.partition("/")[0]
        return f"the push to {repo} failed: the access token may not write to {owner}; check its rights, and the name"
    reason = first_line(error).removesuffix(".")
    if status is None and is_transport_error(error):
        reason = f"the hub cannot be reached ({reason})"
    return f"the push to {repo} failed: {reason}; the same command repeats it"
