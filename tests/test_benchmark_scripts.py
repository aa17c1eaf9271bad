"""The scripts of benchmarks/ behind the numbers of docs/scale.md."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest


def script(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("encoder", ["matrix", "preparation"])
def test_a_build_is_measured_stage_by_stage(tmp_path: Path, encoder: str) -> None:
    costs = script("build_costs")
    costs.write_raw(tmp_path, samples=30, side=48)
    found = costs.one_build(tmp_path, encoder, "cpu", 8)
    assert (found["samples"], list(found["seconds"])) == (30, list(costs.STAGES))
    assert all(seconds > 0 for seconds in found["seconds"].values())
    slack = 2**20  # the system counts pages in batches
    assert found["peak_bytes"] + slack > found["peak_bytes_before_selection"] > 0
    sizes = [path.stat().st_size for corpus in "ug" for path in (tmp_path / corpus).glob("*.jpg")]
    assert found["picture_bytes"] == sum(sizes), "each image is copied once"
    assert found["disk_bytes"] > 30 * 300


def test_parts_by_similarity_keep_more_than_parts_at_random(capsys: pytest.CaptureFixture[str]) -> None:
    script("parts").main(["--rows", "1600", "--dimensions", "32", "--parts", "1", "8"])
    whole, random, similar = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["cut"] for one in (whole, random, similar)] == ["whole", "random", "similar"]
    assert whole["total_similarity"] > similar["total_similarity"] > 1.2 * random["total_similarity"]
