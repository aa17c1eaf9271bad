"""README and docs/ name only what exists: links, commands, settings, files, functions, parts."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from benchmarks.app import app as benchmarks_app
from pairuni.cli.app import app
from pairuni.config import PairsSettings, RunSettings, SuiteSettings, setting_keys
from tools import make_cli_reference, make_hardware_tables, make_settings_reference

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]
COMMANDS, BENCHMARKS = get_command(app), get_command(benchmarks_app)
RUN, PAIRS = set(setting_keys(RunSettings)), set(setting_keys(PairsSettings))
SECTIONS = {key.partition(".")[0] for key in RUN if "." in key}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


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


def fault(words: list[str], command: Any = COMMANDS) -> str | None:
    """What is wrong with the words after ``pairuni``; None when the command would be understood."""
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
    extra = {
        "build": PAIRS,
        "encode": PAIRS,
        "split": PAIRS,
        "train": RUN,
        "ablate": RUN,
        "agreement": RUN,
        "serve-reward": RUN,
        "all": set(setting_keys(SuiteSettings)),
    }.get(command.name, set())
    while rest:
        word = rest.pop(0).partition("=")[0]
        if not word.startswith("-") or word == "--help":
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
        if words[:3] == ["python", "-m", "benchmarks"] and len(words) > 3:
            wrong = fault(words[3:], BENCHMARKS)
            assert wrong is None, f"{page.name}: {' '.join(words)}: {wrong}"
        elif words[:2] == ["python", "-m"] and words[2].startswith(("pairuni", "benchmarks", "tools")):
            assert importlib.util.find_spec(words[2]), f"{page.name}: {' '.join(words)}"
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), f"{page.name}: {words}"


def test_the_command_check_can_fail() -> None:
    assert fault(["train", "recipes/digits.toml", "--pairgrpo.learning-rate", "1e-5", "--dry-run"]) is None
    assert fault(["train", "recipes/digits.toml", "--pairgrpo.learning-rat", "1e-5"]) is not None
    assert fault(["pairs", "build", "--encoder", "x", "--treshold", "0.5"]) is not None
    assert fault(["pairs", "galery"]) is not None
    assert fault(["draw", "a cat", "--sead", "1"]) is not None


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
        if re.fullmatch(r"(recipes|src|tests|docs|benchmarks|tools)/[\w./-]*\w", word):
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


def test_the_command_reference_is_up_to_date() -> None:
    made = make_cli_reference.page()
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made, (
        "run python tools/make_cli_reference.py"
    )


def test_the_settings_reference_is_up_to_date() -> None:
    for page, made in make_settings_reference.pages().items():
        assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, (
            "run python tools/make_settings_reference.py"
        )


def test_the_hardware_tables_are_up_to_date() -> None:
    text = make_hardware_tables.PAGE.read_text(encoding="utf-8")
    assert make_hardware_tables.page(text) == text, "run python tools/make_hardware_tables.py"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", text_of(ROOT / "README.md")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
