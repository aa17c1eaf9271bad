"""Builds the sdist and, from it, the wheel; installs the wheel with nothing but its declared dependencies; uses it.

    python -m tools.check_package --out dist            # dependencies are links to those installed here
    python -m tools.check_package --out dist --download # pip installs them

Links keep the check short, and as strict: the environment holds the distributions that the wheel requires, those that
they require, and no others.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MOST_BYTES = 24 << 20
"""Of the wheel and of the sdist; most of it is the two tiny models."""
KNOWN = re.compile(
    r"pairuni/([a-z0-9_]+/)*[a-z0-9_]+\.py|pairuni/(py\.typed|paper\.toml)|pairuni/(report|app)/\w+\.(css|html|js)"
    r"|pairuni/assets/tiny-\w+/(vqvae/)?\w+\.(json|jinja|safetensors|md)|pairuni/recipes/([\w-]+/)*[\w-]+\.(toml|md)"
    r"|pairuni-[\d.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)"
)
"""What a wheel may hold."""

DEMO = """
from pairuni import demo
from pairuni.config import PairGRPOSettings

whole = demo.demo_settings
def short(seed, pairs):
    full = whole(seed, pairs)
    steps = PairGRPOSettings(**{**full.pairgrpo.model_dump(), "steps": 2, "pairs_per_batch": 2})
    return full.model_copy(update={"pairgrpo": steps})
demo.demo_settings, demo.SAMPLES, demo.HELD_OUT = short, 60, 30

from pairuni.cli.app import app
app(["demo"], prog_name="pairuni")
"""
"""``pairuni demo`` on few samples, in two steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for sdist and wheel")
    parser.add_argument("--download", action="store_true", help="let pip install the dependencies")
    given = parser.parse_args()
    sdist, wheel = build(given.out)
    if faults := [*size_faults(sdist), *size_faults(wheel), *content_faults(wheel)]:
        sys.exit("\n".join(faults))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = install(wheel, folder / "environment", download=given.download)
        (folder / "empty").mkdir()
        use(python, folder / "empty")
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, installed and used; {sdist}")


def build(out: Path) -> tuple[Path, Path]:
    """Write the sdist of this repository and the wheel that is built from the sdist; returns both."""
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("pairuni-*.tar.gz"), *out.glob("pairuni-*.whl")):
        old.unlink()
    _hatch("sdist", ROOT, out)
    (sdist,) = out.glob("pairuni-*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(sdist) as archive:
            archive.extractall(name, filter="data")
        (source,) = Path(name).iterdir()
        _hatch("wheel", source, out)
    (wheel,) = out.glob("pairuni-*.whl")
    return sdist, wheel


def size_faults(file: Path) -> Iterator[str]:
    """Why a distribution is too large."""
    size = file.stat().st_size
    if size > MOST_BYTES:
        yield f"{file.name} has {size:,} bytes; at most {MOST_BYTES:,} are wanted"


def content_faults(wheel: Path) -> Iterator[str]:
    """Files that a wheel should not hold, and parts of this repository that it lacks."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    yield from (f"{wheel.name} holds {name}" for name in sorted(names) if not KNOWN.fullmatch(name))
    tracked = subprocess.run(
        ["git", "ls-files", "src/pairuni", "recipes"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name.removeprefix("src/") if name.startswith("src/") else f"pairuni/{name}" for name in tracked}
    yield from (f"{wheel.name} lacks {name}" for name in sorted(wanted - names))


def install(wheel: Path, environment: Path, *, download: bool = False) -> Path:
    """Install a wheel into a new virtual environment; returns its Python.

    download: pip installs the dependencies in the tested versions; otherwise they are linked.
    """
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    if download:
        _pip(python, "install", "--constraint", ROOT / "constraints.txt", wheel)
    else:
        _pip(python, "install", "--no-deps", "--no-index", wheel)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
        (found,) = metadata.distributions(name="pairuni", path=[str(packages)])
        for requirement in found.requires or []:
            _link(Requirement(requirement), packages, {"pairuni"})
    _pip(python, "check")
    return python


def use(python: Path, empty: Path) -> None:
    """Do what the documentation shows, in an empty folder."""
    command = [str(python), "-m", "pairuni"]
    where = _run([str(python), "-c", "import pairuni; print(pairuni.__file__)"], empty)
    assert Path(where).is_relative_to(python.parents[1]), f"{where} was imported"
    _run([*command, "recipes", "copy", "digits"], empty)
    assert (empty / "recipes" / "digits.toml").is_file()
    _run([str(python), "-c", DEMO], empty)
    run = empty / "runs" / "demo"
    assert all((run / name).is_file() for name in ("summary.json", "report.html", "final/model.safetensors"))
    _run([*command, "draw", "two sevens", "--model", "runs/demo", "--out", "sevens.png"], empty)
    assert (empty / "sevens.png").is_file()
    image = "runs/demo/world/understanding/images/00000.png"
    assert _run([*command, "answer", image, "how many digits are there?", "--model", "runs/demo"], empty)


def _hatch(target: str, source: Path, out: Path) -> None:
    words = ["hatchling", "build", "--target", target, "--directory", str(out.resolve())]
    _run([sys.executable, "-m", *words], source)


def _pip(python: Path, *words: object) -> None:
    options = ["--quiet", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "pip", "--python", str(python), *map(str, words), *options], ROOT)


def _run(command: Sequence[str], folder: Path) -> str:
    """The output of a command, which must succeed; Python finds only what its environment holds."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def _link(requirement: Requirement, packages: Path, done: set[str]) -> None:
    """Link a distribution and what it requires into a folder of packages."""
    name = canonicalize_name(requirement.name)
    extras = requirement.extras or {""}
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    found = metadata.distribution(requirement.name)
    if name not in done:
        done.add(name)
        for part in {path.parts[0] for path in found.files or []} - {"..", "__pycache__"}:
            target = packages / part
            if not target.exists():
                target.symlink_to(Path(str(found.locate_file(part))).resolve())
    for inner in map(Requirement, found.requires or []):
        marker = inner.marker
        wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)
        if wanted and canonicalize_name(inner.name) not in done:
            inner.marker = None
            _link(inner, packages, done)


if __name__ == "__main__":
    main()
