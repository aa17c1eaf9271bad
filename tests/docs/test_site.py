"""The site has every page, and its links lead somewhere; ``make site`` builds it, which needs MkDocs."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import posixpath
import re
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import pairuni
from pairuni.config import section_classes
from tools.site import pages, prose

CONFIG: dict[str, Any] = yaml.safe_load((pages.ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
MADE = pages.made_pages()
SITE = {
    **MADE,
    **{
        path.name: pages.with_site_links(path.read_text(encoding="utf-8"), path, path.name)
        for path in pages.DOCS.glob("*.md")
    },
}
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.M)
API = {place: DIRECTIVE.findall(text) for place, text in SITE.items() if place.startswith("api/")}


def navigation(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from navigation(value)


def test_the_navigation_has_every_page_once() -> None:
    listed = sorted(navigation(CONFIG["nav"]))
    wanted = sorted(place for place in SITE if not place.startswith("source/"))
    missing, unknown = set(wanted) - set(listed), set(listed) - set(wanted)
    assert not missing, (
        f"add to nav of mkdocs.yml, under the heading where a reader looks for it: {sorted(missing)}"
    )
    assert not unknown, f"nav of mkdocs.yml has pages that do not exist: {sorted(unknown)}"
    assert listed == wanted


def anchors(text: str) -> set[str]:
    outside = re.sub(r"^(`{3,})[^`\n]*\n.*?^\1$", "", text, flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", outside, re.M)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(DIRECTIVE.findall(text))


@pytest.mark.parametrize("place", SITE)
def test_links_of_the_site_lead_somewhere(place: str) -> None:
    for target in pages.links(SITE[place]):
        file, _, anchor = target.partition("#")
        linked = posixpath.normpath(posixpath.join(posixpath.dirname(place), file))
        assert linked in SITE or (pages.DOCS / linked).is_file(), f"{place} links to {target}"
        assert not anchor or anchor in anchors(SITE[linked]), f"{place} links to {target}"


def test_the_reference_has_the_public_api_and_nothing_that_does_not_exist() -> None:
    documented = [name for names in API.values() for name in names]
    assert len(set(documented)) == len(documented) > 40
    wanted = {f"pairuni.{name}" for name in pairuni.__all__ if name != "__version__"}
    assert wanted <= set(documented), "add these to tools/site/api"
    for name in documented:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute) is not None, name


def documented_parts() -> Iterator[tuple[str, Any]]:
    """Each function and class of the reference, and each public method."""
    for name in (name for names in API.values() for name in names):
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        if inspect.isroutine(found) or inspect.isclass(found):
            yield name, found
        for inner, member in vars(found).items() if inspect.isclass(found) else ():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not inner.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{inner}", function


def undescribed(part: Any) -> list[str]:
    """The parameters of a function, or the fields of a class, that its docstring does not mention."""
    if inspect.isclass(part) and issubclass(part, BaseModel):
        fields = part.model_fields.items()
        names = [name for name, one in fields if not one.description and not section_classes(one.annotation)]
    elif dataclasses.is_dataclass(part):
        names = [field.name for field in dataclasses.fields(part)]
    elif inspect.isroutine(part) or "__init__" in vars(part):
        parameters = inspect.signature(part).parameters.values()
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names = [
            one.name for one in parameters if one.name not in {"self", "cls"} and one.kind not in variadic
        ]
    else:
        names = []
    return [name for name in names if not re.search(rf"\b{name}\b", part.__doc__)]


PARTS = dict(documented_parts())


@pytest.mark.parametrize("name", PARTS)
def test_docstrings_of_the_reference_describe_every_parameter(name: str) -> None:
    part = PARTS[name]
    own = part.__doc__ and not part.__doc__.startswith(
        f"{part.__name__}("
    )  # what dataclasses write themselves
    assert own, f"{name} has no docstring"
    assert not undescribed(part), f"describe them in the docstring of {name}"


def test_a_link_out_of_docs_leads_to_a_page_that_shows_the_file() -> None:
    objective = pages.ROOT / "src" / "pairuni" / "pairgrpo" / "objective.py"
    text = "[a](../src/pairuni/pairgrpo/objective.py), [b](../src/pairuni/rewards/), [c](../README.md#limits)"
    changed = pages.with_site_links(text, pages.DOCS / "x.md", "x.md")
    assert list(pages.links(changed)) == [
        "source/src/pairuni/pairgrpo/objective.py.md",
        "source/src/pairuni/rewards/index.md",
        "index.md#limits",
    ]
    assert (
        objective.read_text(encoding="utf-8").rstrip() in MADE["source/src/pairuni/pairgrpo/objective.py.md"]
    )
    assert "[registry.py](registry.py.md)" in MADE["source/src/pairuni/rewards/index.md"]


def test_code_and_other_servers_are_no_links_of_the_repository() -> None:
    text = "`[a](b.md)` [c](https://d.org) [e](#f)\n\n```text\n[g](h.md)\n```\n\n[`i`](method.md)\n"
    assert list(pages.links(text)) == ["method.md"]
    assert pages.with_site_links(text, pages.DOCS / "x.md", "x.md") == text
    with pytest.raises(FileNotFoundError, match=r"docs/x\.md links to missing\.md"):
        pages.with_site_links("[x](missing.md)", pages.DOCS / "x.md", "x.md")


def test_the_notebook_is_a_page() -> None:
    page = MADE["quickstart.md"]
    assert page.startswith("# ")
    assert "```python\nimport pairuni\n" in page
    assert 'href="../quickstart.ipynb"' in page


def test_a_file_with_fences_is_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "x.py").write_text('"""\n````\ncode\n````\n"""\n')
    assert pages._file(tmp_path / "x.py").startswith("# `x.py`\n\n`````python\n")


def test_descriptions_of_parameters_become_a_section() -> None:
    text = (
        "Draw. A note: kept.\n\nprompt: what to draw; count, seed: of the images. guidance: a weight, 1 turns\n"
        "it off. Raises ValueError for a bad prompt.\n\n    indented: stays"
    )
    assert prose.with_section(text, ["prompt", "count", "seed", "guidance", "note"], "Args") == (
        "Draw. A note: kept.\n\nRaises ValueError for a bad prompt.\n\n    indented: stays\n\n"
        "Args:\n    prompt: what to draw\n    count: of the images.\n    seed: of the images.\n"
        "    guidance: a weight, 1 turns it off."
    )
    assert prose.with_section("Nothing: here.", ["other"], "Args") == "Nothing: here."
    assert prose.with_section("prompt: here.", [], "Args") == "prompt: here."


def test_names_of_the_public_api_become_links() -> None:
    assert (
        prose.with_links("As ``train`` and ``other``.", ["train"])
        == "As [`train`][pairuni.train] and ``other``."
    )


@pytest.mark.parametrize("path", sorted((pages.DOCS / "images").glob("*.svg")), ids=lambda path: path.stem)
def test_diagrams_are_self_contained_and_say_what_they_show(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = xml.etree.ElementTree.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{svg}title")
    assert root.findtext(f"{svg}desc")
    assert root.findall(f".//{svg}text")
    assert not re.findall(r"https?:(?!//www\.w3\.org/2000/svg)", text)
    light, _, dark = re.sub(r"\s+", " ", text.partition("</style>")[0]).partition(
        "prefers-color-scheme: dark"
    )
    colours = [set(re.findall(r"(--[\w-]+):", part)) for part in (light, dark)]
    assert colours[0] == colours[1] == set(re.findall(r"var\((--[\w-]+)\)", text))
    styled = set(re.findall(r"\.([a-z]+) {", text))
    assert {name for one in root.iter() for name in one.get("class", "").split()} == styled
