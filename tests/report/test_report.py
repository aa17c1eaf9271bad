import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fake_run import write_fake_run
from pairuni.report import write_report
from pairuni.report.training import SHOWN_ROLLOUTS, SHOWN_SAMPLES, SIGNALS
from pairuni.runs.run import read_run

VOID = {"meta", "img", "br", "hr", "input", "link"}
SECTIONS = ["result", "rewards", "categories", "images", "answers", "rollouts", "pairs", "settings"]


class Page(HTMLParser):
    """Parses a page, fails on tags that do not nest, and collects tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "demo", steps=40, items=24, pairs=18)


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def small_run(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_all_sections_exist_and_are_linked(page: Page) -> None:
    assert [attrs["id"] for attrs in page.of("section")] == SECTIONS
    assert [attrs["href"] for attrs in page.of("a")] == [f"#{name}" for name in SECTIONS]
    assert len(page.of("h1")) == 1


def test_the_page_makes_no_requests(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text()
    assert not re.search(
        r"(https?:)?//[a-z]",
        re.sub(r"base64,[^\"]*", "", re.sub(r"<script>.*?</script>", "", text, flags=re.S)),
    )
    for tag, attrs in page.tags:
        source = attrs.get("src")
        assert source is None or source.startswith("data:image/"), tag
        assert tag not in {"link", "iframe", "object"}
        assert str(attrs.get("href", "#")).startswith("#")
    policy = next(a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy


def test_images_have_alt_texts_and_sizes(page: Page) -> None:
    images = page.of("img")
    assert len(images) > 40
    assert all(attrs["alt"] and attrs["width"] and attrs["height"] for attrs in images)
    assert "not found" not in page.words


def test_headline_shows_scores_and_intervals(run: Path, page: Page) -> None:
    before = json.loads((run / "evaluation" / "before.json").read_text())
    after = json.loads((run / "evaluation" / "after.json").read_text())
    for task in ("understanding", "generation"):
        first, second = before[task]["score"], after[task]["score"]
        assert f"{100 * first:.1f}%" in page.words
        assert f"{100 * second:.1f}%" in page.words
        assert f"{100 * (second - first):+.1f} points".replace("-", "−") in page.words
    tracks = [a["aria-label"] for a in page.of("div") if str(a.get("class", "")).startswith("track")]
    assert len(tracks) == 4
    assert all("95% interval" in str(label) for label in tracks)


def charts(page: Page) -> list[dict[str, Any]]:
    return [json.loads(str(attrs["data-chart"])) for attrs in page.of("div") if "data-chart" in attrs]


def test_curves_contain_every_step(page: Page) -> None:
    shown = [chart["lines"][0] for chart in charts(page)]
    assert len(shown) == 2 + 7  # two rewards and the metrics in this run
    assert shown[0]["steps"] == list(range(1, 41))
    assert len(shown[0]["values"]) == len(shown[0]["smooth"]) == 40
    norm = next(line for line in shown if 7 not in line["steps"])
    assert len(norm["steps"]) == 39  # the gradient norm of step 7 was not finite
    for attrs in page.of("div"):
        if "data-chart" in attrs:
            assert attrs["tabindex"] == "0"
            assert attrs["aria-label"]


def test_loss_learning_rate_and_kl_have_curves(tmp_path: Path) -> None:
    def words(**more: float) -> str:
        row = {"step": 1, "understanding/reward": 0.5, "loss": -1e-8, "learning_rate": 2e-6, **more}
        folder = small_run(tmp_path / str(len(more)), metrics__jsonl=json.dumps(row) + "\n")
        return Page(write_report(folder).read_text()).words

    without, measured = words(), words(kl=0.003)
    assert "Learning rate" in without
    assert "2e-6" in without
    assert "Loss" in without
    assert "KL to the reference is measured if pairgrpo.beta is above 0" in without
    assert "KL to the reference" in measured
    assert "pairgrpo.beta" not in measured


def test_held_out_scores_of_the_log_have_curves(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "eval/understanding": 0.25, "eval/<mine>": 7.0},
        {"step": 1, "understanding/reward": 0.5},
        {"step": 2, "understanding/reward": 0.5, "eval/understanding": 0.75, "eval/<mine>": 9.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    page = Page(write_report(small_run(tmp_path / "run", metrics__jsonl=text)).read_text())
    assert [attrs["id"] for attrs in page.of("section")] == ["rewards", "held-out"]
    assert "Understanding, held out" in page.words
    assert "<mine>, held out" in page.words
    assert [(line["steps"], line["values"]) for chart in charts(page)[1:] for line in chart["lines"]] == [
        ([0, 2], [0.25, 0.75]),
        ([0, 2], [7.0, 9.0]),
    ]


def test_pages_of_long_runs_stay_small_and_keep_extremes(tmp_path: Path) -> None:
    rng = random.Random(0)
    names = ("understanding/reward", "generation/reward", *(key for key, _ in SIGNALS))
    rows = [{"step": step, **{name: rng.random() for name in names}} for step in range(1, 10_001)]
    rows[4321]["grad_norm"] = 50.0
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path = write_report(small_run(tmp_path / "long", metrics__jsonl=text))
    assert path.stat().st_size < 1_000_000
    page = Page(path.read_text())
    assert "of 10,000 steps drawn" in page.words
    peaks = [line for chart in charts(page) for line in chart["lines"] if 50.0 in line["values"]]
    assert [line["steps"][line["values"].index(50.0)] for line in peaks] == [4322]
    assert all(line["steps"][0] == 1 and line["steps"][-1] == 10_000 for line in peaks)


def test_large_groups_show_a_selection_and_say_so(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "large", steps=2, items=2, pairs=2)
    log = folder / "samples" / "samples.jsonl"
    row = json.loads(log.read_text().splitlines()[0])
    image, answer = row["pictures"][0], row["answers"][0]
    rows = [
        {
            **row,
            "step": step,
            "prompt": f"prompt {step}-{index}",
            "pictures": [image] * 64,
            "answers": [answer] * 64,
        }
        for step in (1, 5, 9)
        for index in range(200)
    ]
    log.write_text("".join(json.dumps(one) + "\n" for one in rows))
    page = Page(write_report(folder).read_text())
    words = page.words[page.words.index("Groups of rollouts") :]
    assert f"{SHOWN_SAMPLES} of 600" in words
    assert words.count("12 of 64 rollouts") == 2 * SHOWN_SAMPLES
    shown = [attrs for attrs in page.of("img") if str(attrs["alt"]).startswith("rollout for")]
    assert len(shown) == SHOWN_ROLLOUTS * SHOWN_SAMPLES
    assert (folder / "report.html").stat().st_size < 1_000_000


def test_the_same_run_gives_the_same_page(run: Path) -> None:
    first = (run / "report.html").read_bytes()
    assert write_report(run).read_bytes() == first
    assert [path.name for path in run.glob(".*")] == []


def test_metrics_are_enough_for_a_report(run: Path, tmp_path: Path) -> None:
    one_step = '{"step": 1, "understanding/reward": 0.0, "generation/reward": 0.0}\n'
    for name, metrics in (("all", (run / "metrics.jsonl").read_text()), ("one", one_step)):
        page = Page(write_report(small_run(tmp_path / name, metrics__jsonl=metrics)).read_text())
        assert [attrs["id"] for attrs in page.of("section")] == ["rewards"]


def test_rewards_outside_0_to_1(tmp_path: Path) -> None:
    lines = "".join(f'{{"step": {n}, "generation/reward": {-3.5 + n}}}\n' for n in range(1, 9))
    page = Page(
        write_report(small_run(tmp_path / "hps", metrics__jsonl=lines + '{"step": 9, "gen')).read_text()
    )
    assert "−4" in page.words  # the axis reaches below the lowest value, -2.5


def test_scores_from_the_summary_only(tmp_path: Path) -> None:
    summary = {
        "seed": 1,
        "before": {"understanding": 0.4, "generation": 0.25, "understanding_by_kind": {"read": 0.4}},
        "after": {
            "understanding": 0.5,
            "generation": 0.35,
            "understanding_by_kind": {"read": {"score": 0.5, "count": 9}},
        },
    }
    folder = small_run(tmp_path / "summed", summary__json=json.dumps(summary))
    page = Page(write_report(folder).read_text())
    assert [attrs["id"] for attrs in page.of("section")] == ["result", "categories"]
    assert "+10.0 points" in page.words


def test_missing_images_show_a_placeholder(run: Path, tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "holes", steps=3, items=6, pairs=4)
    for path in folder.glob("samples/*/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    rows = [json.loads(line) for line in (folder / "pairug" / "pairs.jsonl").read_text().splitlines()]
    outside = tmp_path / "secret.png"
    outside.write_bytes((folder / "pairug" / rows[0]["understand_ann"]["image_path"]).read_bytes())
    for row in rows:
        row["understand_ann"]["image_path"] = "../../secret.png"
    (folder / "pairug" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report(folder).read_text())
    assert page.words.count("not found") == 2 * 2 * 8 + 4


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("summary.json", "{", "summary.json: is not valid JSON"),
        ("config.toml", "a = ", "config.toml: is not valid TOML"),
        ("metrics.jsonl", "{}x\n{}\n", "metrics.jsonl, line 1"),
        ("evaluation/after.json", '{"understanding": {"score": "high"}}', "after.json: understanding.score"),
        ("evaluation/step-000002.json", '{"understanding": ', "step-000002.json: is not valid JSON"),
        (
            "evaluation/step-000002.json",
            '{"understanding": {"score": 1}}',
            "step-000002.json: generation: Field required",
        ),
        ("pairug/pairs.jsonl", '{"similarity": 2}\n', "pairs.jsonl, line 1"),
    ],
)
def test_broken_parts_are_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    folder = write_fake_run(tmp_path / "broken", steps=2, items=2, pairs=2)
    report = write_report(folder)
    good = report.read_bytes()
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)):
        write_report(folder)
    assert report.read_bytes() == good


def test_items_of_another_evaluation_are_refused(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "mixed", steps=2, items=4, pairs=2)
    before = json.loads((folder / "evaluation" / "before.json").read_text())
    before["generation"]["items"].reverse()
    (folder / "evaluation" / "before.json").write_text(json.dumps(before))
    with pytest.raises(ValueError, match="different generation items"):
        write_report(folder)


def test_folders_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        write_report(tmp_path / "none")
    with pytest.raises(ValueError, match="is not a run folder"):
        write_report(small_run(tmp_path / "empty"))


def test_pairs_are_read_from_parquet_too(tmp_path):
    folder = write_fake_run(tmp_path / "run", steps=2, items=2, pairs=4)
    lines = folder / "pairug" / "pairs.jsonl"
    pairs = read_run(folder).pairs
    rows = [pair.model_dump() for pair in pairs]
    pq.write_table(pa.Table.from_pylist(rows), lines.with_suffix(".parquet"))
    lines.unlink()
    read = read_run(folder)
    assert [(p.similarity, p.kind, p.generate_ann.prompt) for p in read.pairs] == [
        (p.similarity, p.kind, p.generate_ann.prompt) for p in pairs
    ]
    assert read.pairs_folder == lines.parent
    lines.with_suffix(".parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"pairs\.parquet is not a valid parquet file"):
        read_run(folder)


def step_evaluation(step: int, score: float, reply: str) -> str:
    answered = {
        "question": "which <digit>?",
        "answer": "two",
        "reply": reply,
        "reward": score,
        "image": "asked.png",
    }
    generated = {"prompt": "a two", "correct": score > 0.5, "image": f"{step}.png"}
    return json.dumps(
        {
            "understanding": {"score": score, "items": [answered]},
            "generation": {"score": score, "items": [generated]},
        }
    )


def test_held_out_items_are_shown_by_step(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", metrics__jsonl='{"step": 1, "understanding/reward": 0.5}\n')
    (run / "evaluation").mkdir()
    for step, reply in ((0, "six"), (100, "two"), (20, "nine")):
        (run / "evaluation" / f"step-{step:06d}.json").write_text(step_evaluation(step, step / 100, reply))
        Image.new("RGB", (32, 32), (step, 0, 0)).save(run / f"{step}.png")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    section = page.words[page.words.index("Held-out evaluation during training") :]
    expected = (
        "a two",
        "step 0✗",
        "step 100✓",
        "which <digit>?",
        "step 0: 0six",
        "step 20: 0.2nine",
        "step 100: 1two",
    )
    places = [section.index(words) for words in expected]
    assert places == sorted(places)
    shown = [image["alt"] for image in page.of("img")]
    assert shown == [f"after step {step}: a two" for step in (0, 20, 100)]


def test_items_are_compared_only_with_the_same_items(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", metrics__jsonl='{"step": 1, "understanding/reward": 0.5}\n')
    (run / "evaluation").mkdir()
    evaluation = json.loads(step_evaluation(9, 1.0, "two"))
    for step, prompts in ((0, ["a six"]), (3, []), (9, ["a two", "a nine"])):
        generated = [{**evaluation["generation"]["items"][0], "prompt": prompt} for prompt in prompts]
        answered = evaluation["understanding"]["items"] * len(prompts)
        for task, items in (("generation", generated), ("understanding", answered)):
            evaluation[task] = {"score": 1.0, "items": items}
        (run / "evaluation" / f"step-{step:06d}.json").write_text(json.dumps(evaluation))
        evaluation = json.loads(step_evaluation(9, 1.0, "two"))
        Image.new("RGB", (32, 32)).save(run / "9.png")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert [image["alt"] for image in page.of("img")] == ["after step 9: a two", "after step 9: a nine"]
