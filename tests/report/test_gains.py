import json
from pathlib import Path
from typing import Any

import pytest

from pairuni.report import write_report
from pairuni.report.gains import gain_of
from pairuni.runs.evaluations import MarkedItem

# (form, correct and reads before, correct and reads after), 10 items
ITEMS = [
    ("options", (False, True), (True, True)),  # the letter no longer contradicts the words
    ("options", (False, True), (True, True)),
    ("options", (False, True), (True, True)),
    ("options", (True, False), (False, False)),  # a lucky letter that is gone
    ("options", (False, False), (True, True)),  # better reading
    ("options", (True, True), (True, True)),
    ("open", (False, False), (True, True)),
    ("open", (True, True), (False, False)),
    ("open", (False, False), (True, True)),
    ("open", (True, True), (True, True)),
]


def rows(when: int) -> list[dict[str, Any]]:
    return [
        {"question": f"question {number}", "form": one[0], "correct": one[when][0], "reads": one[when][1]}
        for number, one in enumerate(ITEMS)
    ]


def write_run(folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    for name, items in (("before", before), ("after", after)):
        score = sum(item["correct"] for item in items) / len(items)
        values = {"understanding": {"score": score, "count": len(items), "items": items}}
        (folder / "evaluation" / f"{name}.json").write_text(json.dumps(values))
    return folder


def test_reading_and_format_add_up_to_the_gain() -> None:
    before, after = ([MarkedItem(**row) for row in rows(when)] for when in (1, 2))
    gain = gain_of("all", before, after)
    assert (gain.items, gain.before, gain.after) == (10, 0.4, 0.8)
    assert (gain.total.value, gain.reading.value, gain.format.value) == (0.4, 0.2, 0.2)
    options = gain_of("options", before[:6], after[:6])
    assert options.total.value == pytest.approx(3 / 6)
    assert options.reading.value == pytest.approx(1 / 6)
    assert options.format.value == pytest.approx(2 / 6)


def test_intervals_are_of_paired_items() -> None:
    # 36 of 100 items gain and the others stay: 0.36 +- 1.96 * sqrt(0.36 * 0.64 / 100), whatever their level
    before = [MarkedItem(correct=n >= 60, reads=True) for n in range(100)]
    after = [MarkedItem(correct=n >= 24, reads=True) for n in range(100)]
    gain = gain_of("options", before, after)
    assert gain.total.interval == pytest.approx((0.266, 0.454), abs=0.015)
    assert gain.format.interval == gain.total.interval
    assert (gain.reading.value, gain.reading.interval) == (0.0, None)


def test_the_table_has_both_forms(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run", rows(1), rows(2))).read_text(encoding="utf-8")
    section = page[page.index('<section id="gain"') :]
    section = section[: section.index("</section>")]
    assert "Understanding changed by <b>+40.0 points</b>: +20.0 by reading (95%: −" in section
    assert " and +20.0 by format (95%: " in section
    for words in (
        "All questions <small>10 items</small>",
        "Open <small>4 items</small>",
        "With options <small>6 items</small>",
        '<th scope="row">before</th><td>40.0%</td><td>50.0%</td><td>33.3%</td>',
        '<th scope="row">after</th><td>80.0%</td><td>75.0%</td><td>83.3%</td>',
        "<b>+16.7</b>",
        "<b>+33.3</b>",
    ):
        assert words in section
    assert "<td><b>0.0</b></td>" in section  # format of open questions: no item changes, so no interval


def test_evaluations_without_readings_have_no_table(tmp_path: Path) -> None:
    old = [{key: value for key, value in row.items() if key not in ("form", "reads")} for row in rows(1)]
    for name, before, after in (("old", old, old), ("half", old, rows(2))):
        page = write_report(write_run(tmp_path / name, before, after)).read_text(encoding="utf-8")
        assert '<section id="answers"' in page
        assert '<section id="gain"' not in page
