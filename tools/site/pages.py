"""Pages of the site: those of docs/ as they are, and those made of files that stand elsewhere. Needs no MkDocs.

The pages of docs/ are written to be read in the repository, so their links lead to files. On the site, a link to a file
outside of docs/ leads to a page that shows it.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
API = Path(__file__).parent / "api"
STYLE = Path(__file__).parent / "site.css"

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
MADE = {
    ROOT / "README.md": "index.md",
    NOTEBOOK: "quickstart.md",
    ROOT / "CHANGELOG.md": "changes.md",
    **{path: f"api/{path.name}" for path in sorted(API.glob("*.md"))},
}
"""Files outside of docs/ that are pages of their own -> the page's place on the site."""

LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".cff": "yaml"}
"""Suffixes of files that a page can show -> their language; others are shown as plain text."""

_CODE_OR_LINK = re.compile(r"^(`{3,})[^`\n]*\n.*?^\1$|`[^`\n]+`|\]\((?P<target>[^)\s]+)\)", re.S | re.M)


def links(text: str) -> Iterator[str]:
    """The targets of the relative links of Markdown, outside of code."""
    for found in _CODE_OR_LINK.finditer(text):
        target = found["target"]
        if target and not re.match(r"[a-z]+:|#", target):
            yield target


def place_of(path: Path) -> str:
    """Where the site has a file or folder of the repository, such as ``method.md``."""
    if path in MADE:
        return MADE[path]
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    shown = f"source/{path.relative_to(ROOT).as_posix()}"
    if path.is_dir():
        return f"{shown}/index.md"
    return shown if path.suffix == ".md" else f"{shown}.md"


def with_site_links(text: str, path: Path, place: str) -> str:
    """The text of the file ``path``, with its relative links changed to what they mean at ``place`` on the site.

    Raises FileNotFoundError for a link that leads nowhere.
    """

    def changed(found: re.Match[str]) -> str:
        target = found["target"]
        if not target or re.match(r"[a-z]+:|#", target):
            return found[0]
        file, hash_sign, anchor = target.partition("#")
        linked = (path.parent / file).resolve()
        if not linked.exists():
            raise FileNotFoundError(f"{path.relative_to(ROOT)} links to {target}, which does not exist")
        relative = posixpath.relpath(place_of(linked), posixpath.dirname(place) or ".")
        return f"]({relative}{hash_sign}{anchor})"

    return _CODE_OR_LINK.sub(changed, text)


def made_pages() -> dict[str, str]:
    """Place on the site -> Markdown, of all pages that docs/ does not hold."""
    made: dict[str, str] = {}
    waiting = [*MADE]
    for page in sorted(DOCS.glob("*.md")):
        waiting += _outside(page, page.read_text(encoding="utf-8"))
    while waiting:
        path = waiting.pop()
        place = place_of(path)
        if place not in made:
            text = _text_of(path)
            written_at = path / "index" if path.is_dir() else path
            made[place] = with_site_links(text, written_at, place)
            waiting += _outside(written_at, text)
    return made


def _outside(path: Path, text: str) -> list[Path]:
    """The files and folders outside of docs/ that a page links to."""
    linked = [(path.parent / target.partition("#")[0]).resolve() for target in links(text)]
    return [one for one in linked if not one.is_relative_to(DOCS)]


def _text_of(path: Path) -> str:
    if path.is_dir():
        text = _plain(path / "README.md") if (path / "README.md").is_file() else _folder(path)
    elif path.suffix == ".md":
        text = _plain(path)
    else:
        text = _notebook(path) if path.suffix == ".ipynb" else _file(path)
    return text if path in MADE else f"---\nsearch:\n  exclude: true\n---\n\n{text}"


def _plain(path: Path) -> str:
    """Markdown without the metadata of a model card."""
    return re.sub(r"\A---\n.*?\n---\n+", "", path.read_text(encoding="utf-8"), flags=re.S)


def _notebook(path: Path) -> str:
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    parts.append(f'<a href="../{path.name}" download>Download this notebook</a>')
    return "\n\n".join(parts) + "\n"


def _file(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", f"`{text}")))
    name = path.relative_to(ROOT).as_posix()
    return f"# `{name}`\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"


def _folder(path: Path) -> str:
    shown = [one for one in sorted(path.iterdir()) if one.is_dir() or one.suffix in {*LANGUAGES, ".md"}]
    rows = [
        f"| [{one.name}{'/' * one.is_dir()}]({one.name}) | {_purpose(one)} |"
        for one in shown
        if not one.name.startswith((".", "_"))
    ]
    name = path.relative_to(ROOT).as_posix()
    return "\n".join([f"# `{name}/`", "", "| name | |", "|---|---|", *rows]) + "\n"


def _purpose(path: Path) -> str:
    """The first line of the docstring of a module or package."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "`").replace("|", "\\|")
