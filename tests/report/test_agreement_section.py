import json
from pathlib import Path

import pytest

from pairuni.report import write_report
from pairuni.report.axes import signed

ROWS = [
    {"step": 1, "understanding/reward": 0.5, "gradient_agreement": 0.2, "gradient_agreement/layer_00": -0.1},
    {"step": 2, "understanding/reward": 0.5, "gradient_agreement/layer_00": None},
    {
        "step": 3,
        "understanding/reward": 0.5,
        "gradient_agreement": -0.1,
        "gradient_agreement/layer_00": 0.3,
        "gradient_agreement/layer_10": 0.2,
        "gradient_agreement/layer_02": -0.2,
        "gradient_agreement/generation_head": 0.05,
    },
    {"step": 4, "understanding/reward": 0.5, "gradient_agreement": 0.5, "gradient_agreement/layer_00": 0.1},
]


def report(folder: Path, rows: list[dict[str, float | None]]) -> str:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_report(folder).read_text(encoding="utf-8")


def test_the_curve_leaves_out_steps_without_a_cosine(tmp_path: Path) -> None:
    page = report(tmp_path / "run", ROWS)
    section = page[page.index('<section id="agreement"') :]
    assert "Mean <b>+0.2000</b>; above 0 in 2 of 3 steps." in section
    assert page.count("data-chart=") == 2  # the reward and the agreement
    chart = json.loads(section.split('data-chart="')[1].split('"')[0].replace("&quot;", '"'))
    (line,) = chart["lines"]
    assert (line["steps"], line["values"], line["smooth"]) == ([1, 3, 4], [0.2, -0.1, 0.5], None)


def test_parts_of_the_model_in_order_with_their_means(tmp_path: Path) -> None:
    page = report(tmp_path / "run", ROWS)
    table = page[page.index('<table class="signed"') : page.index("</table>")]
    rows = [row.split("</th>") for row in table.split('<th scope="row">')[1:]]
    assert [name for name, _ in rows] == ["layer 0", "layer 2", "layer 10", "generation head"]
    assert [cells.rsplit("<td>", 1)[1].split("</td>")[0] for _, cells in rows] == [
        "+0.1000",
        "−0.2000",
        "+0.2000",
        "+0.0500",
    ]
    # the scale goes from -0.2 to 0.2, so zero is in the middle
    assert 'data-at="left:50.00%;width:25.00%"' in rows[0][1]
    assert 'data-at="left:0.00%;width:50.00%"' in rows[1][1]
    assert 'data-at="left:50.00%;width:50.00%"' in rows[2][1]


def test_runs_without_agreement_have_no_section(tmp_path: Path) -> None:
    bare = [{"step": row["step"], "understanding/reward": 0.5, "gradient_agreement": None} for row in ROWS]
    assert '<section id="agreement"' not in report(tmp_path / "run", bare)


def test_a_damaged_cosine_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: gradient_agreement/layer_00"):
        report(tmp_path / "run", [ROWS[0], {"step": 2, "gradient_agreement/layer_00": "high"}])


def test_signs() -> None:
    assert [signed(value, 1) for value in (0.44, -0.44, 0.04, -0.04, 0.0)] == [
        "+0.4",
        "−0.4",
        "0.0",
        "0.0",
        "0.0",
    ]
