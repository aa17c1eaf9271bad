"""WISE (arXiv:2503.07265): image generation that requires world knowledge, in six buckets, scored by a judge.

Two protocols have only the prompt ids in common: ``legacy``, that of the paper (three marks from 0 to 2 by GPT-4o),
and ``verified`` (right or wrong, other prompts, other buckets). Their scores cannot be compared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pairuni.evaluation.result import Result, part_of
from pairuni.evaluation.rows import read_rows, write_rows
from pairuni.intervals import bootstrap_interval

Protocol = Literal["legacy", "verified"]


@dataclass(frozen=True)
class Bucket:
    """The prompts whose ids run from ``first`` to ``last``, and their weight in the overall score."""

    first: int
    last: int
    weight: float


BUCKETS: Mapping[Protocol, Mapping[str, Bucket]] = {
    "legacy": {
        "culture": Bucket(1, 400, 0.4),
        "time": Bucket(401, 567, 0.167),
        "space": Bucket(568, 700, 0.133),
        "biology": Bucket(701, 800, 0.1),
        "physics": Bucket(801, 900, 0.1),
        "chemistry": Bucket(901, 1000, 0.1),
    },
    "verified": {
        "culture": Bucket(1, 400, 0.4),
        "time": Bucket(401, 520, 0.12),
        "space": Bucket(521, 640, 0.12),
        "biology": Bucket(641, 760, 0.12),
        "physics": Bucket(761, 880, 0.12),
        "chemistry": Bucket(881, 1000, 0.12),
    },
}
PROMPTS = 1000
JUDGE_TEMPERATURE = 0.0
"""The judge's temperature in both protocols."""
MARKS: Mapping[str, float] = {"consistency": 0.7, "realism": 0.2, "aesthetic_quality": 0.1}
"""The legacy protocol's marks and their weights."""
_SAID = re.compile(
    r"""
    (?<![^\W_]) (consistency | realism | aesthetic[ _-]quality) (?:[ ](?:score|mark|rating))?
    (?: [*_]* \s* \(0\s*[-–]\s*2\) )?                           # the range, repeated
    (?: [\s*_"'`|]* [:：=|–—-] (?![-–]) )? [\s*_"'`|(\[]*      # a colon, in bold or not, or none
    (?<!-) (\d) (?:\.0+)? (?: \s* (?:/|out[ ]of) \s* 2 (?:\.0+)? )?
    (?! \d | [.,–-]\d | \s*/ | \s*out[ ]of )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BARE = re.compile(r"[\s*_]*(\d)(?:\.0+)?(?:\s*/\s*2)?[\s*_.]*")


def marks_in(reply: str) -> dict[str, int] | None:
    """The three marks in a legacy judge's reply: named marks, or three lines with one number each; else None.

    As in the official script, a name is followed by its mark, with or without a colon. A mark may be bold, 2.0 or 2/2.
    Unlike there, 20 is not read as 2, 1.5 not as 1 and 2/5 not as 2: such a reply has no marks.
    """
    named = {re.sub(r"[ -]", "_", name.lower()): int(digit) for name, digit in _SAID.findall(reply)}
    if len(named) < len(MARKS):
        digits = [found[1] for line in reply.split("\n") if (found := _BARE.fullmatch(line))]
        named = dict(zip(MARKS, map(int, digits), strict=False)) if len(digits) == len(MARKS) else {}
    return named if named and max(named.values()) <= 2 else None


def wiscore(row: Mapping[str, Any], protocol: Protocol) -> float:
    """One prompt's score in [0, 1] from a row of the official scores file.

    Raises ValueError if the row is of the other protocol or a mark is out of range, such as the 999 that the official
    script writes for a failed request.
    """
    where = f"prompt {row['prompt_id']}"
    other = {"legacy": "score", "verified": "consistency"}[protocol]
    if other in row:
        raise ValueError(f"{where} has {other!r}: it was not judged by the {protocol} protocol")
    names, allowed = (tuple(MARKS), (0, 1, 2)) if protocol == "legacy" else (("score",), (0, 1))
    for name in names:
        if row.get(name) not in allowed:
            raise ValueError(f"{where}: {name} is {row.get(name)!r}; the judge gives {allowed}")
    if protocol == "verified":
        return float(row["score"])
    return sum(weight * row[name] for name, weight in MARKS.items()) / 2


def read_scores(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of all given official scores files, JSON Lines with prompt_id and marks."""
    return [row for path in paths for row in read_rows(path, prompt_id=int)]


def write_scores(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a scores file that the official script reads."""
    write_rows(path, rows)


def score(
    rows: Sequence[Mapping[str, Any]],
    *,
    protocol: Protocol,
    judge: str,
    prompts: Collection[int] = range(1, PROMPTS + 1),
) -> Result:
    """Overall WiScore in [0, 1], the weighted mean of the six buckets.

    judge: the model that gave the marks; scores of different judges are not comparable. prompts: ids of the prompts
    that were run, with some of every bucket. Raises ValueError for a missing, duplicate or unknown prompt, and for a
    row of the other protocol.
    """
    scores: dict[int, float] = {}
    for row in rows:
        if row["prompt_id"] in scores:
            raise ValueError(f"prompt {row['prompt_id']} is scored twice")
        scores[row["prompt_id"]] = wiscore(row, protocol)
    buckets = BUCKETS[protocol]
    wrong = [f"missing {i}" for i in prompts if i not in scores]
    wrong += [f"unknown {i}" for i in scores if i not in prompts]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"WISE needs a score for each of its {len(prompts)} prompts: {', '.join(wrong[:5])}{more}"
        )
    parts = {
        name: [scores[i] for i in range(b.first, b.last + 1) if i in scores] for name, b in buckets.items()
    }
    means = {name: sum(part) / len(part) for name, part in parts.items()}
    weights = [bucket.weight for bucket in buckets.values()]
    return Result(
        benchmark="WISE",
        protocol=part_of(protocol, len(scores), PROMPTS),
        score=sum(buckets[name].weight * mean for name, mean in means.items()),
        unit="WiScore, of 1",
        interval=bootstrap_interval(
            list(parts.values()),
            lambda drawn: sum(
                (w * mean for w, mean in zip(weights[1:], drawn[1:], strict=True)), weights[0] * drawn[0]
            ),
        ),
        parts=means,
        counts={name: len(part) for name, part in parts.items()},
        settings={"judge": judge},
    )
