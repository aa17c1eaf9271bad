"""recipes/paper from raw data to the comparison with the paper, on stand-ins with the real files' schema."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import paper_stand_ins as stand_ins
from chat_server import Ask, ChatServer
from commands import call, fails
from pairuni.config import RunSettings, StudySettings, load_settings
from pairuni.evaluation.comparison import find_results
from pairuni.pairug.dataset.store import read_pairs
from pairuni.paper import published
from pairuni.runs.models import load_model
from pairuni.studies.study import Study
from tools.make_recipe_plans import write_model

RECIPES = Path(__file__).parents[1] / "recipes"
RAW = ("--understanding", "data/orsta/train_*.parquet", "--generation", "data/blip3o/*.tar")
SAMPLES = 12
"""Of each raw file."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the recipes, copied, raw data, models and benchmarks."""
    folder = tmp_path_factory.mktemp("paper")
    done("recipes", "copy", "paper", "--to", folder / "recipes")
    stand_ins.write_orsta(folder / "data" / "orsta", SAMPLES)
    stand_ins.write_blip3o(folder / "data" / "blip3o", SAMPLES)
    stand_ins.write_resnet(folder / "resnet")
    stand_ins.write_resnet(folder / "dinov3")
    return folder


@pytest.fixture(autouse=True)
def inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairuni.evaluation.model.load_model", functools.cache(load_model))
    monkeypatch.chdir(here)
    monkeypatch.setenv("OPENAI_API_KEY", "of-a-test")


@pytest.fixture(scope="module")
def pairs(here: Path) -> Iterator[Path]:
    """The build of pairug_16k.toml by an endpoint."""
    with pytest.MonkeyPatch.context() as patch, ChatServer() as server:
        patch.chdir(here)
        patch.setenv("OPENAI_API_KEY", "of-a-test")
        words = [*RAW, "--completion.base-url", server.url, "--encoder", "resnet", "--clusters", "6"]
        done("pairs", "build", "recipes/paper/pairug_16k.toml", *words)
        assert {ask.body["model"] for ask in server.asks} == {"o3"}
        yield here / "data" / "pairug" / "pairs.jsonl"


@pytest.fixture(scope="module")
def small(here: Path) -> list[str]:
    """Options that make a training recipe of the paper small."""
    return [
        *("--policy.model=tiny", "--policy.dtype=float32", *stand_ins.write_hpsv2(here / "hpsv2")),
        *("--rollout.understanding=2", "--rollout.generation=2", "--rollout.max-new-tokens=8"),
        *("--pairgrpo.steps=1", "--pairgrpo.pairs-per-batch=2", "--evaluation.items=2"),
    ]


def done(*words: object) -> str:
    code, said, errors = call(*words)
    assert code == 0, errors
    return said


def test_the_build_is_planned_from_files() -> None:
    said = done("pairs", "build", "recipes/paper/pairug_16k.toml", *RAW, "--dry-run")
    calls = 2 * 4 * SAMPLES  # written and verified; the file of detection is left out
    assert f"calls         {calls} if every reply is good at once" in said
    assert "clusters = 5000" in said
    assert not Path("data/pairug").exists()


def test_the_build_leaves_out_boxes_and_follows_the_paper(pairs: Path) -> None:
    stats = json.loads((pairs.parent / "stats.json").read_text())
    assert stats["build"]["quadruples"] == 4 * SAMPLES
    assert stats["left_out"]["understanding"] == {"detection": SAMPLES}
    chosen = {
        name: stats["settings"][name] for name in ("threshold", "matching", "clustering", "max_matches")
    }
    assert chosen == {"threshold": 0.6, "matching": "sequential", "clustering": "reference", "max_matches": 1}
    assert {one.understand_ann.tag for one in read_pairs(pairs)} <= {"Math", "Puzzle", "JourneyDB", "geneval"}


def test_counts_stand_beside_the_papers(pairs: Path) -> None:
    found = read_pairs(pairs)
    kinds = [one.kind for one in found]
    lines = [line.split() for line in done("pairs", "stats", pairs, "--paper").splitlines()]
    assert ["pairs", str(len(found)), "16,320"] in lines
    assert ["aligned", str(kinds.count("aligned")), "4,971"] in lines
    assert ["retrieved", str(kinds.count("retrieved")), "11,349"] in lines
    tags = [one.generate_ann.tag for one in found if one.kind == "retrieved"]
    assert ["GenEval", str(tags.count("geneval")), "1,787"] in lines
    assert ["Human", "Gestures", "0", "602"] in lines
    bars = [line for line in lines if len(line) in (4, 5) and line[1] == "to"]
    assert sum(int(line[3]) for line in bars) == kinds.count("retrieved")


@pytest.mark.parametrize(
    ("name", "shape", "setting"),
    [
        ("janus_pro_7b_unweighted", "janus-pro-7b", 'pair_weight = "none"'),
        pytest.param("lumina_dimoo_random", "lumina-dimoo", 'pairing = "random"', marks=pytest.mark.slow),
    ],
)
def test_other_recipes_are_planned_on_the_sizes_of_the_real_models(
    here: Path, pairs: Path, small: list[str], name: str, shape: str, setting: str
) -> None:
    write_model(shape, here / shape)
    reward = [word for word in small if "hpsv2" in word]
    words = [f"--policy.model={shape}", "--evaluation.items=2", *reward]
    said = done("train", f"recipes/paper/{name}.toml", *words, "--dry-run", "--gpus", "8")
    assert setting in said
    assert re.search(r"^8 x H100 80GB +fits: ", said, re.M)


@pytest.mark.parametrize("name", ["janus_pro_1b", "janus_pro_7b", "lumina_dimoo"])
def test_the_papers_training_is_that_of_the_shared_recipes(name: str) -> None:
    own = load_settings(RunSettings, f"recipes/paper/{name}.toml")
    assert own == load_settings(RunSettings, RECIPES / f"{name}.toml")
    assert own.data.pairs == Path("data/pairug/pairs.jsonl")


def test_train_evaluate_and_compare(here: Path, pairs: Path, small: list[str]) -> None:
    benchmarks = stand_ins.write_benchmarks(here / "data" / "benchmarks")
    said = done("train", "recipes/paper/janus_pro_1b.toml", *small, "--out", "runs/1b")
    assert "trained model: runs/1b/final" in said
    words = [
        "eval",
        "all",
        "recipes/paper/evaluation.toml",
        "--model",
        "runs/1b",
        "--out",
        "scores",
        *benchmarks,
    ]
    words += ["--geneval.samples=1", "--wise.limit=6", *(f"--{name}.max-new-tokens=4" for name in QUESTIONS)]
    with ChatServer(reply=marks, rename=lambda values: str(values["said"])) as server:
        words += ["--wise.base-url", server.url]
        planned = done(*words, "--dry-run", "--gpus", 8)
        assert [line.split()[0] for line in planned.splitlines()[:7]] == [
            "model",
            *QUESTIONS,
            "geneval",
            "wise",
        ]
        assert "8 x H100 80GB       at most 0.00 hours of decoding; minutes: mmmu 0.0" in planned
        assert not Path("scores").exists()
        assert server.asks == []
        first = done(*words)
        assert len(server.asks) == 6
        assert done(*words) == first
        assert len(server.asks) == 6  # a second run repeats nothing
    assert "GenEval (official rules" in first
    found = find_results([Path("scores")])
    names = {result.benchmark for result in found.values()}
    assert names == {*published()["PairUni-1B"]}
    said = done("compare", "scores", "--paper", "PairUni-1B")
    assert "| MMMU validation | official, partial (30 of 900) |" in said
    assert "| 40.40 |" in said
    assert "Without a result" not in said


QUESTIONS = ("mmmu", "mmstar", "mme", "pope")


def marks(ask: Ask) -> dict[str, str]:
    return {"said": "Consistency: 1\nRealism: 1\nAesthetic Quality: 2"}


def test_missing_files_of_any_benchmark_stop_a_suite_before_its_first(here: Path, pairs: Path) -> None:
    stand_ins.write_benchmarks(here / "others")
    words = [f"--{name}.data=others/{place}" for name, place in (("mmmu", "MMMU"), ("mmstar", "MMStar"))]
    said = fails(
        "eval", "all", "recipes/paper/evaluation.toml", "--model=tiny", "--out=late", *words, "--mme.data=no"
    )
    assert "no lacks MME's existence" in said
    assert not Path("late").exists()


@pytest.mark.parametrize("name", ["pairing", "weighting", "threshold", "selection", "encoder"])
def test_studies_have_the_papers_rows_and_figures(pairs: Path, small: list[str], name: str) -> None:
    path = Path("recipes/paper/ablations") / f"{name}.toml"
    rows = load_settings(StudySettings, path).rows
    printed = {row: figures for row, figures in published().items() if row.startswith(f"{name}/")}
    assert [f"{name}/{row.name}" for row in rows] == [row for row in printed if "(7B)" not in row]
    units = {"MMMU": ("MMMU validation", 1), "MMStar": ("MMStar", 1), "MME-P": ("MME-Perception", 1)}
    units["GenEval"] = ("GenEval", 100)
    for row in rows:
        figures = {units[key][0]: units[key][1] * value for key, value in row.paper.items()}
        assert figures == pytest.approx(
            {key: one.score for key, one in printed[f"{name}/{row.name}"].items()}
        )
    study = Study.load(path, Path("studies"), overrides=small, seeds=1)
    assert len({cell.key for cell in study.cells}) == len(rows)
    paper = load_settings(RunSettings, RECIPES / "janus_pro_1b.toml")
    for cell in Study.load(path, Path("studies"), seeds=1).cells:
        assert cell.settings.pairgrpo.steps == paper.pairgrpo.steps
        assert cell.data is None or cell.data.build.completed == Path("data/pairug")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_pairs_again_and_trains_its_rows(here: Path, pairs: Path, small: list[str]) -> None:
    study = here / "recipes" / "paper" / "ablations" / "encoder.toml"
    text = study.read_text().replace("facebook/dinov3-vitb16-pretrain-lvd1689m", "dinov3")
    again = study.with_name("pairs_again.toml")
    again.write_text(again.read_text() + 'encoder = "resnet"\nclusters = 6\n')
    study.write_text(text)
    suite = here / "recipes" / "paper" / "evaluation.toml"
    stand_ins.write_benchmarks(here / "data" / "benchmarks")
    short = suite.read_text().replace("max_new_tokens = 512", "max_new_tokens = 4")
    suite.write_text(re.sub(r'detector = ".*"', "samples = 1", short.replace("samples = 4\n", "")))
    words = ["--seeds", 1, "--row", "DINOv3", "--jobs", 1, "--out", "studies", "--benchmarks", suite]
    said = done("ablate", study, *small, *words)
    assert said.startswith("| Encoder | MMMU | MMStar | MMMU (paper) | MMStar (paper) | GenEval (paper) |")
    row = next(line for line in said.splitlines() if line.startswith("| DINOv3"))
    assert re.match(r"\| DINOv3 \| [\d.]+ \(partial\) \| [\d.]+ \(partial\) \| 40.4 \| 46 \| 0.79 \|", row)
    assert done("ablate", study, *small, *words) == said
    assert len(list(Path("studies/data").glob("*/pairs.jsonl"))) == 2
