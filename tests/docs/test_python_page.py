"""examples/quickstart.ipynb and the blocks of docs/python.md, run in order in a new process and an empty folder."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pairuni
from pairuni.evaluation.result import read_result
from warm_python import WarmPython

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

RUN_IN_ORDER = """
import json, sys

names = {"__name__": "__main__"}
for number, code in enumerate(json.loads(sys.stdin.read())):
    exec(compile(code, f"block {number}", "exec"), names)
"""


def test_the_notebook_is_clean_and_is_the_first_block_of_the_page() -> None:
    assert BLOCKS[0] == "\n\n".join(CELLS) + "\n"
    for cell in NOTEBOOK["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_page_names_everything() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## Names")[2].partition("## ")[0]))
    assert set(pairuni.__all__) - {"__version__"} <= named


def test_notebook_and_page_run(tmp_path: Path, warm_python: WarmPython) -> None:
    done = subprocess.run(
        [warm_python.python, "-c", RUN_IN_ORDER],
        input=json.dumps([*CELLS, *BLOCKS[1:]]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pairgrpo.learning_rat is not a setting; did you mean pairgrpo.learning_rate?" in done.stdout
    assert "3 runs/quickstart/final runs/quickstart/report.html" in done.stdout
    assert (tmp_path / "sevens.png").is_file()
    run = pairuni.read_run(tmp_path / "runs" / "quickstart")
    assert [row.step for row in run.metrics] == [1, 2, 3]
    assert len(pairuni.read_pairs(tmp_path / "pairug" / "pairs.jsonl")) == len(run.pairs) > 3
    red = pairuni.read_run(tmp_path / "runs" / "red").metrics[-1].value("generation/reward")
    assert f"{red}\n" in done.stdout
    results = [read_result(path) for path in sorted((tmp_path / "scores").glob("digits-*.json"))]
    assert [result.benchmark for result in results] == ["Digits generation", "Digits understanding"]
    for result in results:
        assert f"{result.benchmark} {result.score}" in done.stdout
        assert result.counts["all"] == 12
