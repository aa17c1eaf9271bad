"""The bench of selection: a set of the stated kind, contenders in processes of their own, numbers that agree."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import child, pairing, suite
from benchmarks.app import app
from benchmarks.ladder import markdown
from benchmarks.pairing import ADDS, CONTENDERS, clustered_features
from benchmarks.settings import SelectionSettings

SMALL = {"understanding": 300, "generation": 400, "dimensions": 16, "clusters": 30}


def test_features_are_clustered_directions_and_follow_the_seed():
    settings = SelectionSettings(**SMALL)
    features = clustered_features(settings)
    assert features.shape == (700, 16)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(features, clustered_features(settings))
    nearest = np.sort(features[:300] @ features[300:].T, axis=1)[:, -1]
    assert 0.1 < (nearest > 0.9).mean() < 0.9


def test_the_command_prints_what_it_measured(monkeypatch):
    monkeypatch.setattr(
        child,
        "run_module",
        lambda _, name, words: pairing.select(name, SelectionSettings.model_validate_json(words)),
    )
    words = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
    done = CliRunner().invoke(app, ["pairing", *words, "--repeats", "1"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    rows = found["contenders"]
    assert list(rows) == list(ADDS) == list(CONTENDERS)
    for row in rows.values():
        assert row["seconds"] == pytest.approx(row["clustering_seconds"] + row["retrieval_seconds"])
        assert row["peak_bytes"] >= row["start_bytes"] > 50 << 20
        assert 0 < row["pairs"] <= 300
        assert row["mean_similarity"] == pytest.approx(row["total_similarity"] / row["pairs"], abs=1e-4)
    same = [rows[name]["inertia"] for name in ("torch", "greedy", "pairuni")]
    assert same == [same[0]] * 3
    ours, reference = rows["pairuni"], rows["reference"]
    assert (
        ours["total_similarity"] >= max(rows[name]["total_similarity"] for name in ("torch", "greedy")) - 1e-3
    )
    assert found["times_faster"]["seconds"] == pytest.approx(reference["seconds"] / ours["seconds"])
    assert "300 and 400 features of 16 numbers, K = 30" in markdown({"small": found})


def test_more_clusters_than_rows_is_a_sentence():
    done = CliRunner().invoke(app, ["pairing", "--clusters", "20000"])
    assert done.exit_code == 1
    assert done.stderr.strip() == "error: --clusters 20000 exceeds the number of features, 10700"


def test_the_list_names_a_command_that_is_understood(monkeypatch):
    measured = []
    monkeypatch.setattr("benchmarks.pairing.measure", lambda settings: measured.append(settings) or {})
    done = CliRunner().invoke(app, [*suite.CPU["pairing-cpu"].split(), "--json"])
    assert done.exit_code == 0, done.output
    assert (measured[0].clusters, measured[0].dimensions) == (5000, 2048)


def test_the_search_by_clusters_is_held_to_all_with_all(monkeypatch):
    monkeypatch.setattr("pairuni.pairug.selection.candidates.EXACT_COMPARISONS", 10_000)
    words = ["--understanding", "1500", "--generation", "2000", "--dimensions", "32", "--clusters", "160"]
    done = CliRunner().invoke(app, ["candidates", *words, "--repeats", "1", "--candidates", "8"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    every, ours = found["contenders"]["all"], found["contenders"]["pairuni"]
    assert (every["cosines_share"], every["recall"]) == (1.0, 1.0)
    assert ours["cosines_share"] < 0.5
    assert 0.99 <= ours["recall"] <= 1.0
    assert ours["edges"] <= every["edges"]
    assert "**all**: every cosine" in markdown({"small": found})


def test_the_sizes_of_the_list_double():
    rows = [suite.CPU[f"candidates-{size}k-cpu"].split() for size in (25, 50, 100)]
    totals = [int(words[2]) + int(words[4]) for words in rows]
    assert totals == [25_000, 50_000, 100_000]
