"""The installed package, without the repository: a wheel built offline, unpacked and run in an empty folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="hatchling, which builds wheels, is not installed"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages of an installation."""
    built = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    packages = tmp_path_factory.mktemp("packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return packages


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


def pairuni(installed: Path, here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "pairuni", *words]
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)


def test_the_package_is_the_unpacked_one(installed: Path, here: Path) -> None:
    code = "import pairuni; print(pairuni.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(installed / "pairuni" / "__init__.py")
    assert (installed / "pairuni" / "py.typed").is_file()


def test_recipes_of_an_installed_package(installed: Path, here: Path) -> None:
    names = {path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in recipes()}
    listed = pairuni(installed, here, "recipes")
    shown = {line.split()[0] for line in listed.stdout.splitlines()}
    assert {name for name in shown if not name.endswith("/")} == names, listed.stderr
    copied = pairuni(installed, here, "recipes", "copy", "digits")
    assert copied.stdout == "recipes/digits.toml\n", copied.stderr
    assert (here / "recipes" / "digits.toml").read_bytes() == (ROOT / "recipes" / "digits.toml").read_bytes()
    paper = pairuni(installed, here, "recipes", "copy", "paper")
    assert "recipes/paper/pairug_16k.toml\n" in paper.stdout, paper.stderr
    assert (here / "recipes" / "paper" / "ablations" / "pairing.toml").is_file()
    assert (installed / "pairuni" / "paper.toml").is_file()
    trained = pairuni(installed, here, "train", "digits")
    assert "runs/demo/pairug/pairs.jsonl: no such pair file" in trained.stderr


def recipes() -> list[Path]:
    return list((ROOT / "recipes").rglob("*.toml"))
