"""Hooks of MkDocs: the pages that docs/ does not hold, the links of those that it does, and nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from tools.site import pages

LOADED = re.compile(
    r"""<(?:script|img|iframe|link rel="(?:stylesheet|icon|preload)")[^>]*(?:src|href)="(?:https?:)?//[^"]+"""
)


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are made of other files, the notebook to download, and the style sheet."""
    for place, text in pages.made_pages().items():
        files.append(File.generated(config, place, content=text))
    for path in (pages.NOTEBOOK, pages.STYLE):
        files.append(File.generated(config, path.name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead links out of docs/ to pages of the site."""
    path = pages.DOCS / page.file.src_uri
    return pages.with_site_links(markdown, path, page.file.src_uri) if path.is_file() else markdown


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Refuse a page that loads something from another server: the site works offline."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another server: {found[0]}")
    return output
