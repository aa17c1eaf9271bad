"""Files for people who build, report and contribute: the container's build, issue forms, the workflow."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def stages() -> list[list[str]]:
    """Instructions of each stage of the Containerfile."""
    text = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    starts = [index for index, line in enumerate(lines) if line.startswith("FROM ")]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def copied(stage: list[str]) -> list[str]:
    """What a stage copies from the repository."""
    given = [shlex.split(line)[1:-1] for line in stage if line.startswith("COPY ") and "--from" not in line]
    return [name for names in given for name in names]


def test_the_container_builds_the_wheel_from_what_it_copies(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build, final = stages()
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {*copied(build), *copied(final)} == kept, "the rest is left out of the build's context"
    for name in copied(build):
        source, target = ROOT / name, tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source, target)
    (command,) = [line.removeprefix("RUN ") for line in build if "hatchling build" in line]
    words = [sys.executable, *shlex.split(command.replace("/wheels", str(tmp_path / "wheels")))[1:]]
    subprocess.run(words, cwd=tmp_path / "source", check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"pairuni/cli/app.py", "pairuni/recipes/digits.toml", "pairuni/py.typed"} <= names


def test_the_container_installs_known_extras_in_tested_versions() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    _, final = stages()
    (extras,) = [
        line.removeprefix("ARG EXTRAS=").split(",") for line in final if line.startswith("ARG EXTRAS=")
    ]
    assert all(re.search(rf"^{extra} = \[", project, re.M) for extra in extras)
    installs = [line for stage in stages() for line in stage if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_what_github_accepts(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [item["id"] for item in form["body"]]
    assert len(ids) == len(set(ids))
    assert any(item.get("validations", {}).get("required") for item in form["body"])
    for item in form["body"]:
        assert item["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert item["attributes"]["label"]
        if item["type"] in {"dropdown", "checkboxes"}:
            assert item["attributes"]["options"]
        if item["type"] == "dropdown":
            assert all(isinstance(option, str) for option in item["attributes"]["options"])


def test_the_workflow_runs_what_we_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    targets = re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(), re.M)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
