"""The installed package, without the repository: a wheel from the sdist, with its declared dependencies alone."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.check_package import ROOT, build, content_faults, install, size_faults, use

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds wheels, is not installed"
)
BESIDE = {"harness", "app"}
"""Parts of pairuni that load only beside lmms-eval, VLMEvalKit or gradio, which bring what else is imported there."""

LATER = {"io/uvicorn_server.py", "rewards/service/application.py", "rewards/service/connection.py"}
"""Modules that are imported only where their extra is needed."""
PARTS = {"pydantic_core": "pydantic"}
"""Packages in a distribution of their own that another one pins, as a part of it."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel."""
    return install(built[1], tmp_path_factory.mktemp("installed") / "environment")


def run(python: Path, here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), *words], cwd=here, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    assert [*size_faults(sdist), *size_faults(wheel), *content_faults(wheel)] == []


def test_recipes_of_an_installed_package(python: Path, tmp_path: Path) -> None:
    names = {
        path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        for path in (ROOT / "recipes").rglob("*.toml")
    }
    listed = run(python, tmp_path, "-m", "pairuni", "recipes")
    shown = {line.split()[0] for line in listed.stdout.splitlines()}
    assert {name for name in shown if not name.endswith("/")} == names, listed.stderr
    copied = run(python, tmp_path, "-m", "pairuni", "recipes", "copy", "digits")
    assert copied.stdout == "recipes/digits.toml\n", copied.stderr
    assert (tmp_path / "recipes" / "digits.toml").read_bytes() == (ROOT / "recipes/digits.toml").read_bytes()
    paper = run(python, tmp_path, "-m", "pairuni", "recipes", "copy", "paper")
    assert "recipes/paper/pairug_16k.toml\n" in paper.stdout, paper.stderr
    assert (tmp_path / "recipes" / "paper" / "ablations" / "pairing.toml").is_file()
    trained = run(python, tmp_path, "-m", "pairuni", "train", "digits")
    assert "runs/demo/pairug/pairs.jsonl: no such pair file" in trained.stderr


def test_the_environment_holds_only_what_is_declared(python: Path, tmp_path: Path) -> None:
    names = ("torch", "transformers", "pydantic", "pytest", "peft", "datasets", "starlette", "tensorboard")
    code = f"from importlib.util import find_spec; print(*(name for name in {names} if find_spec(name)))"
    assert run(python, tmp_path, "-c", code).stdout.split() == ["torch", "transformers", "pydantic"]


def test_every_import_is_declared() -> None:
    """Imports at the top of a module by a base dependency, others by an extra too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = _names(project["dependencies"])
    extras = base.union(*map(_names, project["optional-dependencies"].values()))
    providers = metadata.packages_distributions()
    for path in sorted((ROOT / "src" / "pairuni").rglob("*.py")):
        module = path.relative_to(ROOT / "src" / "pairuni").as_posix()
        if module.partition("/")[0] in BESIDE:
            continue
        for package, at_top in _imports(ast.parse(path.read_text())):
            if package == "pairuni" or package in sys.stdlib_module_names or package not in providers:
                continue
            names = {canonicalize_name(name) for name in (*providers[package], PARTS.get(package, package))}
            assert names & (base if at_top and module not in LATER else extras), (
                f"{path}: {package} belongs to no declared dependency"
            )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_pip_installs_it_and_it_works(built: tuple[Path, Path], tmp_path: Path) -> None:
    """With dependencies from the package index; `make package` does the same with links."""
    python = install(built[1], tmp_path / "environment", download=True)
    (tmp_path / "empty").mkdir()
    use(python, tmp_path / "empty")


def _names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def _imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """(package, whether the import runs with the module) of each absolute import."""
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], id(node) in top
