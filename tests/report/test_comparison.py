"""The page that compares runs: scores, paired differences, settings, samples, and what a run lacks."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_report import Page, charts

from commands import call, fails
from pairuni.report import write_comparison
from pairuni.report.comparison.curves import curves
from pairuni.report.comparison.runs import MOST_RUNS, read_compared
from pairuni.report.comparison.samples import MOST_IMAGES
from pairuni.report.comparison.scores import change, last_scored
from pairuni.report.statistics import sign_test

SETTINGS = 'seed = {seed}\n[policy]\nmodel = "tiny"\n[pairgrpo]\nsteps = 30\nlearning_rate = {rate}\n'


SCORES, CURVES = "Shares in percent", "Lines of 15 values"
"""How the notes of these sections begin."""


def made_run(
    folder: Path,
    *,
    steps: int = 30,
    seed: int = 0,
    rate: float = 1e-4,
    right: str = "",
    untrained: str = "",
    reward: list[float] | None = None,
    prompts: str = "a {} and a six",
    size: int = 32,
    finished: bool = True,
) -> Path:
    """A run. right, untrained: 1 or 0 for each item of both tasks, at the end and at step 0; reward: of the items."""
    (folder / "evaluation").mkdir(parents=True)
    rng = random.Random(f"{folder.name} {seed}")
    rows = [
        {"step": step, "understanding/reward": rng.random(), "generation/reward": rng.random(), "loss": 0.1}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.toml").write_text(SETTINGS.format(seed=seed, rate=rate))
    if finished:
        (folder / "summary.json").write_text(json.dumps({"seed": seed, "seconds": 75.0}))
    for step, marks in ((0, untrained), (steps, right)):
        scores: list[Any] = reward if reward is not None and step else [int(mark) for mark in marks]
        if scores:
            evaluation = {
                task: {
                    "score": sum(scores) / len(scores),
                    "items": [
                        made_item(task, index, score, reward is None, prompts)
                        for index, score in enumerate(scores)
                    ],
                }
                for task in ("understanding", "generation")
            }
            (folder / "evaluation" / f"step-{step:06d}.json").write_text(json.dumps(evaluation))
            for index in range(len(scores)):
                Image.new("RGB", (size, size), (index, seed, 9)).save(folder / f"{index}.png")
    return folder


def made_item(task: str, index: int, score: float, marked: bool, prompts: str) -> dict[str, Any]:
    own = {"correct": bool(score)} if marked else {"reward": score}
    if task == "generation":
        return {"prompt": prompts.format(index), "image": f"{index}.png", "kind": f"kind_{index % 2}", **own}
    return {"question": f"which digit? {index}", "answer": "two", "reply": f"reply {index}", **own}


def page_of(tmp_path: Path, *runs: Path) -> Page:
    return Page(write_comparison(runs, tmp_path / "compare.html").read_text(encoding="utf-8"))


def part(page: Page, start: str, end: str | None = None) -> str:
    words = page.words[page.words.index(start) :]
    return words[: words.index(end)] if end else words


def test_sign_test_is_the_exact_binomial_one() -> None:
    assert sign_test(0, 0) == sign_test(7, 7) == 1.0
    assert sign_test(5, 0) == sign_test(0, 5) == 2 / 2**5
    assert sign_test(9, 2) == pytest.approx(0.065429688, abs=1e-9)  # binom.test(9, 11) in R
    assert sign_test(3000, 2500) < 1e-10


def test_scores_have_gains_and_paired_differences(tmp_path: Path) -> None:
    first = made_run(tmp_path / "first", untrained="0000011111" * 4, right="0000011111" * 4)
    second = made_run(tmp_path / "second", untrained="0000011111" * 4, right="1111011111" * 4)
    page = page_of(tmp_path, first, second)
    words = part(page, SCORES, CURVES)
    assert "50.0 [35.2,\xa064.8]" in words
    assert "90.0 [76.9,\xa096.0]" in words
    gains = re.findall(r"\+40\.0 \[\+(\d\d\.\d),\xa0\+(\d\d\.\d)\]", words)
    assert len(gains) == 4  # a gain and a difference of each task
    assert all(20 < float(low) < 40 < float(high) < 60 for low, high in gains)
    assert words.count("16, 0") == 2
    assert "3.1e-5" in words
    assert "of 2 differences, 0.1 would by chance" in words
    assert [
        attrs["aria-label"] for attrs in page.of("div") if "role" in attrs and attrs["role"] == "img"
    ] == [f"+40.0 [+{gains[1][0]},\xa0+{gains[1][1]}]" for _ in range(2)]


def test_rewards_are_compared_as_they_are(tmp_path: Path) -> None:
    first = made_run(tmp_path / "first", reward=[0.5, 2.0, 3.5, 4.0])
    second = made_run(tmp_path / "second", reward=[0.75, 2.25, 3.75, 4.5])
    one, two = read_compared([first, second])
    before, after = last_scored(one, "generation"), last_scored(two, "generation")
    assert before is not None
    assert after is not None
    found = change(before, after)
    assert found is not None
    assert (found.value, found.higher, found.lower) == (0.3125, 4, 0)
    assert "+0.312 [+0.25,\xa0+0.438]" in part(page_of(tmp_path, first, second), SCORES, CURVES)


def test_other_items_are_never_paired(tmp_path: Path) -> None:
    same = made_run(tmp_path / "same", right="1010")
    runs = [
        made_run(tmp_path / "shorter", right="101"),
        made_run(tmp_path / "rewards", reward=[1.0, 0.0, 1.0, 0.0]),
        made_run(tmp_path / "prompts", right="1010", prompts="other {}"),
    ]
    words = part(page_of(tmp_path, same, *runs), SCORES, CURVES)
    assert words.count("other items or scoring") == 2 + 2 + 1  # the questions of "prompts" are the same
    assert "of 1 difference," in words


def test_only_settings_that_differ_are_shown(tmp_path: Path) -> None:
    first = made_run(tmp_path / "a", rate=1e-4)
    second = made_run(tmp_path / "b", rate=3e-4)
    (second / "config.toml").write_text((second / "config.toml").read_text() + 'schedule = "<cosine>"\n')
    words = part(page_of(tmp_path, first, second), "From the config.toml")
    assert "3 settings are the same in all" in words
    for cell in ("pairgrpo.learning_rate", "0.0001", "0.0003", "pairgrpo.schedule", "not set", "<cosine>"):
        assert cell in words
    assert "policy.model" not in words
    for run, extra in (
        (first, "[logging]\nto = []\nmasks = true\n"),
        (second, '[logging]\nto = ["wandb", "x"]\nmasks = false\n'),
    ):
        (run / "config.toml").write_text((run / "config.toml").read_text() + extra)
    words = part(page_of(tmp_path, first, second), "From the config.toml")
    for row in ("logging.tononewandb, x", "logging.maskstruefalse"):
        assert row in words
    first = made_run(tmp_path / "d", rate=1e-4)
    equal = made_run(tmp_path / "c", rate=1e-4)
    assert "All runs have the same 4 settings." in page_of(tmp_path, first, equal).words


def test_curves_of_different_lengths_share_their_charts(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / "short", steps=5, right="10"),
        made_run(tmp_path / "long", steps=40, right="11", untrained="00"),
        made_run(tmp_path / "unevaluated", steps=20),
    ]
    found = charts(page_of(tmp_path, *runs))
    by_names = [([line["name"] for line in chart["lines"]], chart["x"]) for chart in found]
    assert by_names == [(["A", "B", "C"], [1, 40])] * 2 + [(["A", "B"], [0, 40])] * 2 + [
        (["A", "B", "C"], [1, 40])
    ]
    assert [len(line["steps"]) for line in found[0]["lines"]] == [5, 40, 20]


def test_sentences_say_what_a_run_lacks(tmp_path: Path) -> None:
    whole = made_run(tmp_path / "whole", right="11")
    cut = made_run(tmp_path / "cut", steps=12, right="11", finished=False)
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "understanding/rew')
    damaged = made_run(tmp_path / "damaged", steps=7)
    with (damaged / "metrics.jsonl").open("ab") as file:
        file.write(bytes(40) + b"\n")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.toml").write_text(SETTINGS.format(seed=1, rate=1))
    changed = {"step": 4, "at": "now", "changed": {"rollout.top_p": {"from": 1.0, "to": 0.9}}}
    (bare / "history.jsonl").write_text(json.dumps(changed) + "\n")
    logged = tmp_path / "logged"
    logged.mkdir()
    (logged / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    said = part(page_of(tmp_path, whole, cut, damaged, bare, logged), "Last rewards", SCORES)
    for sentence in (
        "B The last line of metrics.jsonl is incomplete, being written or cut short, and left out.",
        "B It is unfinished: step 12 of 30.",
        "C The last line of metrics.jsonl, line 8, is damaged and left out.",
        "C It has no held-out evaluation, so it has no held-out scores.",
        "D It has no metrics.jsonl, so it has no curves.",
        "D From step 4 on it had other settings, of which the page shows the last: rollout.top_p.",
        "E It is unfinished: step 1.",
        "E It has no config.toml, so its settings are not compared.",
    ):
        assert sentence in said
    assert "A It" not in said
    (damaged / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        page_of(tmp_path, whole, damaged)


def test_runs_without_anything_in_common_have_a_page(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text('{"seed": 1}')
    page = page_of(tmp_path, tmp_path / "a", tmp_path / "b")
    assert [attrs["id"] for attrs in page.of("section")] == ["runs"]


def test_the_same_prompts_and_questions_are_side_by_side(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / "a", right="1" * 20),
        made_run(tmp_path / "b", right="0" * 20),
        made_run(tmp_path / "c", right="1" * 20, prompts="another {}"),
    ]
    page = page_of(tmp_path, *runs)
    assert "8 of 20 held-out prompts of A, B, at the last evaluation of each." in page.words
    alts = [str(attrs["alt"]) for attrs in page.of("img")]
    assert alts[:4] == [
        "A a: a 0 and a six",
        "B b: a 0 and a six",
        "A a: a 3 and a six",
        "B b: a 3 and a six",
    ]
    assert len(alts) == 16
    # C has other prompts, but the same questions
    answers = part(page, "8 of 20 held-out questions of A, B, C, at the last evaluation of each.")
    assert answers.count("reply 19") == 3


def test_rollouts_stand_in_for_held_out_images(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        run = made_run(tmp_path / name)
        (run / "samples").mkdir()
        Image.new("RGB", (32, 32)).save(run / "samples" / "1.png")
        row = {"similarity": 1.0, "prompt": "a two", "pictures": [{"image": "1.png", "reward": 0.25}]}
        lines = [{**row, "step": 5}, {**row, "step": 10}, {**row, "step": 10, "prompt": f"only {name}"}]
        (run / "samples" / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        runs.append(run)
    page = page_of(tmp_path, *runs)
    assert "1 of 1 training prompts of A, B: a rollout of the last saved step that has it." in page.words
    assert [attrs["alt"] for attrs in page.of("img")] == ["A a: a two", "B b: a two"]
    assert part(page, "Images for the same").count("step 10") == 2


def test_many_long_runs_stay_small(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / str(number), steps=2, right="1" * 40, size=384) for number in range(MOST_RUNS)
    ]
    line = ", ".join(f'"{key}": 0.123456789' for key in ("understanding/reward", "loss", "grad_norm"))
    text = "".join(f'{{"step": {step}, {line}}}\n' for step in range(1, 1501))
    for run in runs:
        (run / "metrics.jsonl").write_text(text)
    path = write_comparison(runs, tmp_path / "compare.html")
    page = Page(path.read_text())
    assert len(page.of("img")) == MOST_IMAGES
    assert path.stat().st_size < 2_000_000
    tones = set(re.findall(r'class="trend (run-\d+)"', path.read_text()))
    assert tones == {f"run-{number}" for number in range(1, MOST_RUNS + 1)}


def test_every_text_is_escaped_and_nothing_is_requested(tmp_path: Path) -> None:
    evil = "<img src=x onerror=hacked()>"
    runs = [made_run(tmp_path / f"{evil} {name}", right="10", prompts=evil + "{}") for name in ("a", "b")]
    for run, model in zip(runs, "ab", strict=True):
        (run / "config.toml").write_text(
            f'[policy]\nmodel = "{evil}{model}"\n["{evil}"]\nkey = "{model}{evil}"\n'
        )
        for path in (run / "evaluation").glob("*.json"):
            values = json.loads(path.read_text())
            for item in values["understanding"]["items"]:
                item |= {"question": evil, "answer": evil, "reply": evil, "kind": evil}
            path.write_text(json.dumps(values))
        (run / "history.jsonl").write_text(json.dumps({"step": 2, "changed": {evil: 1}}) + "\n")
    text = write_comparison(runs, tmp_path / "compare.html").read_text()
    page = Page(text)
    assert "<img src=x" not in text
    assert page.words.count("hacked()") > 20
    assert text.count("<script") == text.count("<style") == 1
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert str(attributes.get("src", "data:image/")).startswith("data:image/"), tag


def test_tables_have_headers_and_images_texts(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name, right="10") for name in ("a", "b")]
    text = write_comparison(runs, tmp_path / "compare.html").read_text()
    page = Page(text)
    assert all(attrs["alt"] for attrs in page.of("img"))
    assert {attrs.get("scope") for attrs in page.of("th")} == {"col", "row"}
    for chart in re.findall(r'role="slider".*?aria-valuetext="([^"]*)"', text):
        assert re.fullmatch(r"step \d+(, smoothed)?: A \S+, B \S+", chart)


def test_folders_are_told_apart_by_the_ends_of_their_paths(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / parent / "run", right="1") for parent in ("x", "y")]
    assert [one.name for one in read_compared(runs)] == ["x/run", "y/run"]
    assert curves(read_compared(runs)).count("data-chart=") == 5


def test_the_command_compares_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = made_run(tmp_path / "a", right="1"), made_run(tmp_path / "b", right="1")
    assert call("report", first, second)[1] == "report: compare.html\n"
    assert (
        call("report", first, second, "--out", tmp_path / "two.html")[1]
        == f"report: {tmp_path / 'two.html'}\n"
    )
    assert call("report", first, "--out", "one.html")[1] == "report: one.html\n"
    assert not (first / "report.html").exists()
    assert "is given twice" in fails("report", first, second, first)
    assert "no such run folder" in fails("report", first, tmp_path / "none")
    assert "is a folder; give the name of a page" in fails("report", first, second, "--out", tmp_path)
    assert f"2 to {MOST_RUNS} runs, not 17" in fails("report", *[first] * 17)
