"""README and docs/ name only what exists: links, commands, settings, files, functions, parts."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pairuni.cli.app import app
from pairuni.config import PairsSettings, RunSettings, setting_keys
from pairuni.digits.questions import QUESTION_KINDS
from tools.tiny_model.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN, PAIRS = set(setting_keys(RunSettings)), set(setting_keys(PairsSettings))
SECTIONS = {key.partition(".")[0] for key in RUN if "." in key}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.S)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.S | re.M)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.S | re.M)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{page.name} links to {target}"


def commands(page: Path) -> Iterator[list[str]]:
    """Command lines of bash blocks and code spans, without comments, assignments and line ends."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *code_spans(page)]:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield words


def fault(words: list[str]) -> str | None:
    """What is wrong with the words after ``pairuni``; None when the command would be understood."""
    command: Any = get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        if not rest or rest[0].startswith("-"):
            return (
                None if all(word in {"--version", "--help", "--traceback"} for word in rest) else "no command"
            )
        name = rest.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    options = {word: option for option in command.params for word in option.opts if word.startswith("-")}
    extra = PAIRS if command.name == "build" else RUN if command.name in {"train", "serve-reward"} else set()
    while rest:
        word = rest.pop(0).partition("=")[0]
        if not word.startswith("-"):
            continue
        known = options.get(word)
        if known is None and word[2:].replace("-", "_") not in extra:
            return f"no option {word}"
        if (known is None or not known.is_flag) and rest and not rest[0].startswith("-"):
            rest.pop(0)
    return None


@pages
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        if words[0] == "pairuni":
            wrong = fault(words[1:])
            assert wrong is None, f"{page.name}: {' '.join(words)}: {wrong}"
        if words[:2] == ["python", "-m"] and words[2].startswith("pairuni"):
            assert importlib.util.find_spec(words[2]), f"{page.name}: {' '.join(words)}"
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), f"{page.name}: {words}"


def test_the_command_check_can_fail() -> None:
    assert fault(["train", "recipes/digits.toml", "--pairgrpo.learning-rate", "1e-5", "--dry-run"]) is None
    assert fault(["train", "recipes/digits.toml", "--pairgrpo.learning-rat", "1e-5"]) is not None
    assert fault(["pairs", "build", "--encoder", "x", "--treshold", "0.5"]) is not None
    assert fault(["pairs", "galery"]) is not None
    assert fault(["draw", "a cat", "--sead", "1"]) is not None


def test_the_readme_lists_every_command() -> None:
    command: Any = get_command(app)
    names = {
        f"pairuni {name}" if not hasattr(one, "commands") else f"pairuni {name} {inner}"
        for name, one in command.commands.items()
        for inner in getattr(one, "commands", [""])
    }
    listed = re.findall(r"^\| `(pairuni(?: [a-z]+(?:-[a-z]+)*)+)` \|", prose(ROOT / "README.md"), re.M)
    assert set(listed) == names


@pages
def test_settings_exist(page: Path) -> None:
    for span in code_spans(page):
        key = span.removeprefix("--").split("=")[0].split(" ")[0].replace("-", "_")
        if re.fullmatch(rf"({'|'.join(SECTIONS)})\.[a-z_]+", key) and not key.endswith((".py", ".jsonl")):
            if span.startswith("--pairgrpo.learning-rat is not a setting"):
                continue  # an error that the page explains
            assert key in RUN, f"{page.name} names the setting {span}"


@pages
def test_recipes_and_paths_exist(page: Path) -> None:
    for word in {word for words in commands(page) for word in words}:
        if re.fullmatch(r"(recipes|src|tests|docs)/[\w./-]*\w", word):
            assert (ROOT / word).exists(), f"{page.name} names {word}"


def names_in(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_the_functions_of_the_method_exist() -> None:
    rows = re.findall(r"^\|[^|\n]*\| `([^`|]+\.py)` \| (.+) \|$", prose(ROOT / "docs" / "method.md"), re.M)
    assert len(rows) >= 20
    for file, cell in rows:
        for name in re.findall(r"`([\w.]+)`", cell):
            assert name in names_in(ROOT / file), f"docs/method.md: {file} has no {name}"


def test_the_tree_is_the_tree() -> None:
    (tree,) = blocks(ROOT / "docs" / "architecture.md", "tree")
    above: dict[int, str] = {}
    listed = set()
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        above = {depth: part for depth, part in above.items() if depth < indent} | {indent: name}
        listed.add("".join(part for _, part in sorted(above.items())))
    for path in listed:
        assert (ROOT / path).exists(), f"docs/architecture.md lists {path}"
    package = ROOT / "src" / "pairuni"
    rooms = {
        f"src/pairuni/{one.name}/" for one in package.iterdir() if one.is_dir() and one.name != "__pycache__"
    }
    files = {f"src/pairuni/{one.name}" for one in package.glob("*.py") if one.name != "__init__.py"}
    told = {
        f"src/pairuni/{room}/{one.name}"
        for room in ("pairug", "pairgrpo", "training", "rewards", "policies", "evaluation", "harness")
        for one in (package / room).glob("*.py")
        if one.name != "__init__.py"
    }
    assert not (rooms | files | told) - listed, "docs/architecture.md leaves out what the package has"


def test_every_dependency_has_its_reason() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=~ \[]", one)[0] for one in declared}
    text = prose(ROOT / "docs" / "architecture.md").partition("## Dependencies")[2].partition("##")[0]
    assert set(re.findall(r"^\| ([a-z0-9-]+) \| [a-zA-Z]", text, re.M)) - {"package", "extra"} == names


def test_stages_and_kinds_of_the_digits_page() -> None:
    text = (ROOT / "docs" / "digits.md").read_text()
    table = text.partition("### How it was made")[2].partition("### Making it again")[0]
    stages = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert stages == ["tower", "vq", *(stage.name for stage in Recipe().stages)]
    questions = text.partition("Questions have five kinds")[2].partition("## Raw data")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", questions, re.M)) == QUESTION_KINDS


def test_every_page_is_read_on_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", text_of(ROOT / "README.md")))
    assert linked == {f"docs/{page.name}" for page in PAGES[1:]}
