"""WISE: buckets, weights, overall; the two protocols kept apart; the real prompts' ids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairuni.evaluation.protocols.wise import (
    BUCKETS,
    Protocol,
    marks_in,
    read_scores,
    score,
    wiscore,
    write_scores,
)

LEGACY_SIZES = {"culture": 400, "time": 167, "space": 133, "biology": 100, "physics": 100, "chemistry": 100}


def legacy(rng: np.random.Generator) -> list[dict[str, Any]]:
    names = ("consistency", "realism", "aesthetic_quality")
    return [
        {"prompt_id": i, "Subcategory": "-"} | {name: int(rng.integers(3)) for name in names}
        for i in rng.permutation(np.arange(1, 1001)).tolist()
    ]


def verified(rng: np.random.Generator) -> list[dict[str, Any]]:
    return [{"prompt_id": i, "score": int(rng.integers(2))} for i in range(1, 1001)]


def test_legacy_is_the_plain_mean_over_the_prompts(tmp_path: Path) -> None:
    rows = legacy(np.random.default_rng(0))
    for name, part in (("a", rows[:400]), ("b", rows[400:])):
        write_scores(tmp_path / name, part)
    result = score(
        read_scores([tmp_path / "a", tmp_path / "b"]), protocol="legacy", judge="gpt-4o-2024-05-13"
    )
    each = [(0.7 * r["consistency"] + 0.2 * r["realism"] + 0.1 * r["aesthetic_quality"]) / 2 for r in rows]
    assert result.score == pytest.approx(sum(each) / 1000, rel=1e-12)
    assert dict(result.counts) == LEGACY_SIZES
    time = [mark for row, mark in zip(rows, each, strict=True) if 401 <= row["prompt_id"] <= 567]
    assert result.parts["time"] == pytest.approx(sum(time) / 167)
    assert result.interval[0] < result.score < result.interval[1]


def test_verified_has_its_own_buckets() -> None:
    rows = verified(np.random.default_rng(1))
    result = score(rows, protocol="verified", judge="a judge")
    assert result.score == pytest.approx(sum(row["score"] for row in rows) / 1000, rel=1e-12)
    assert list(result.counts.values()) == [400, 120, 120, 120, 120, 120]
    assert result.parts["space"] == pytest.approx(sum(row["score"] for row in rows[520:640]) / 120)


@pytest.mark.parametrize("protocol", ["legacy", "verified"])
def test_buckets_cover_every_prompt_once(protocol: Protocol) -> None:
    ids = [i for bucket in BUCKETS[protocol].values() for i in range(bucket.first, bucket.last + 1)]
    assert ids == list(range(1, 1001))
    assert sum(bucket.weight for bucket in BUCKETS[protocol].values()) == pytest.approx(1)


def test_the_ends() -> None:
    full = {"prompt_id": 1, "consistency": 2, "realism": 2, "aesthetic_quality": 2}
    assert wiscore(full, "legacy") == pytest.approx(1)
    assert wiscore(full | {"consistency": 0}, "legacy") == pytest.approx(0.3)
    assert wiscore({"prompt_id": 1, "score": 1}, "verified") == 1


def test_the_protocols_never_mix() -> None:
    rng = np.random.default_rng(2)
    rows = legacy(rng)
    with pytest.raises(ValueError, match="not judged by the verified protocol"):
        score(rows, protocol="verified", judge="a judge")
    with pytest.raises(ValueError, match="not judged by the legacy protocol"):
        score(verified(rng), protocol="legacy", judge="a judge")
    mixed = [row for row in rows if row["prompt_id"] > 500] + verified(rng)[:500]
    with pytest.raises(ValueError, match="not judged by the legacy protocol"):
        score(mixed, protocol="legacy", judge="a judge")


def test_what_is_missing_twice_or_failed_is_named() -> None:
    rows = sorted(legacy(np.random.default_rng(3)), key=lambda row: row["prompt_id"])
    with pytest.raises(ValueError, match=r"missing 7$"):
        score(rows[:6] + rows[7:], protocol="legacy", judge="a judge")
    with pytest.raises(ValueError, match=r"missing 1, .* missing 5 and 995 more"):
        score([], protocol="legacy", judge="a judge")
    with pytest.raises(ValueError, match="prompt 1 is scored twice"):
        score([*rows, rows[0]], protocol="legacy", judge="a judge")
    with pytest.raises(ValueError, match="unknown 1001"):
        score([*rows, rows[0] | {"prompt_id": 1001}], protocol="legacy", judge="a judge")
    with pytest.raises(ValueError, match="prompt 1: realism is 999"):
        score([rows[0] | {"realism": 999}, *rows[1:]], protocol="legacy", judge="a judge")


@pytest.mark.parametrize(
    ("reply", "marks"),
    [
        ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
        ("**Consistency:** 1\n**Realism**: 2\n**aesthetic quality:** 2", (1, 2, 2)),
        ("2\n1\n0\n", (2, 1, 0)),
        ("2\n1", None),
        ("Consistency: 2\nRealism: 1", None),
        ("Consistency: 3\nRealism: 1\nAesthetic Quality: 0", None),
        ("I cannot judge this.", None),
        ("Consistency：2\nRealism: **1**\nAesthetic Quality: 0", (2, 1, 0)),
        ("Consistency: 20\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency: -1\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency: 1.5\nRealism: 1\nAesthetic Quality: 0", None),
        # as the official script takes them: without a colon, with decimals, in bold
        ("Consistency 2\nRealism 1\nAesthetic Quality 0", (2, 1, 0)),
        ("Consistency2\nRealism1\nAesthetic Quality0", (2, 1, 0)),
        ("Consistency: 2.0\nRealism: 1.0\nAesthetic Quality: 1.0", (2, 1, 1)),
        ("**Consistency** 2\n**Realism**: 1\n**Aesthetic Quality:** 0", (2, 1, 0)),
        ("Consistency: 1\nConsistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
        # and in other forms
        ("Consistency: 2/2\nRealism: **1**\nAesthetic Quality: 0 / 2", (2, 1, 0)),
        ("Consistency: 2 out of 2\nRealism = 1.\nAesthetic Quality - 0", (2, 1, 0)),
        ("| Consistency | 2 |\n| Realism | 1 |\n| Aesthetic Quality | 0 |", (2, 1, 0)),
        ('{"consistency": 2, "realism": "1", "aesthetic_quality": 0}', (2, 1, 0)),
        ("Consistency (0-2): 2\nRealism (0–2): 1\nAesthetic Quality (2)", (2, 1, 2)),
        ("Inconsistency: 0. Consistency score: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
        ("2.0\n**1**\n0/2", (2, 1, 0)),
        ("Consistency: 2/5\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency: 2 out of 10\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency: 0-2\nRealism: 1\nAesthetic Quality: 0", None),
        ("Consistency -1\nRealism 1\nAesthetic Quality 0", None),
        ("Consistency with 2 things\nRealism 1\nAesthetic Quality 0", None),
        ("2/5\n1/5\n0/5", None),
    ],
)
def test_replies_of_the_judge(reply: str, marks: tuple[int, int, int] | None) -> None:
    found = marks_in(reply)
    expected = (
        dict(zip(("consistency", "realism", "aesthetic_quality"), marks, strict=True)) if marks else None
    )
    assert found == expected


def test_the_real_prompts_fall_into_their_buckets(benchmarks: Path) -> None:
    other = {"cultural knowledge": "culture", "physical knowledge": "physics"}
    ids = set()
    for file in (benchmarks / "wise_legacy").glob("*.json"):
        for prompt in json.loads(file.read_text()):
            bucket = BUCKETS["legacy"][other.get(prompt["Category"].lower(), prompt["Category"].lower())]
            assert bucket.first <= prompt["prompt_id"] <= bucket.last, prompt
            ids.add(prompt["prompt_id"])
    assert ids == set(range(1, 1001))
