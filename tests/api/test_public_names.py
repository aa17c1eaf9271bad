"""What `import pairuni` offers, and what it costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pairuni


def test_every_name_is_there_and_documented() -> None:
    for name in pairuni.__all__:
        found = getattr(pairuni, name)
        if name != "__version__":
            assert inspect.getdoc(found), name
    assert dir(pairuni) == sorted(pairuni.__all__)
    with pytest.raises(AttributeError, match="'pairuni' has no attribute 'trian'"):
        pairuni.trian  # noqa: B018


def test_types_and_lazy_imports_are_the_same() -> None:
    """A type checker sees the imports under TYPE_CHECKING, a program the table."""
    source = ast.parse(Path(pairuni.__file__).read_text(encoding="utf-8"))
    (typed,) = (
        node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imported = {
        alias.name: node.module
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == pairuni._MODULE_OF
    assert sorted([*imported, "__version__"]) == sorted(pairuni.__all__)


def test_the_import_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import pairuni; dir(pairuni); print(*set(sys.modules) - before);"
        "from pairuni import RunSettings, load_settings; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, torch = done.stdout.splitlines()
    assert {name.partition(".")[0] for name in loaded.split()} - set(sys.stdlib_module_names) == {"pairuni"}
    assert len(loaded.split()) < 50, "typing and what it imports are about 30"
    assert torch == "False"


@pytest.mark.slow
def test_a_type_checker_knows_the_names(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(
        "import pairuni\n"
        "reveal_type(pairuni.train)\n"
        "reveal_type(pairuni.load_settings(pairuni.RunSettings, 'digits'))\n"
        "pairuni.evaluate(3, 'digits')\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "c")]
    config = ["--config-file", str(Path(__file__).parents[2] / "pyproject.toml")]
    done = subprocess.run([*command, *config, str(script)], capture_output=True, text=True, check=False)
    assert "pairuni.api.training.TrainingResult" in done.stdout, done.stdout
    assert 'Revealed type is "pairuni.config.run.RunSettings"' in done.stdout
    assert "script.py:4: error: Argument 1" in done.stdout
