"""The data set card: README.md with YAML front matter, from the pairs and the build's statistics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairuni.io.files import write_text
from pairuni.io.markdown import inline, table
from pairuni.io.text import read_json, read_text
from pairuni.pairug.dataset.statistics import pair_statistics
from pairuni.records import UGPair

STATS = "stats.json"
MARK = "<!-- Written by pairuni and anew by each build; without this line the file is yours and stays. -->"
_TAGS = 40
_BAR = 40
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)


def write_card(folder: Path, pairs: Sequence[UGPair], *, data_files: str, name: str) -> Path:
    """Write ``folder``/README.md, unless its owner has removed MARK from it. The build is described by stats.json.

    data_files: pattern of the pair files for ``datasets``. Raises ValueError when stats.json is not a JSON object.
    """
    path = folder / "README.md"
    if not path.exists() or MARK in read_text(path):
        write_text(path, card(pairs, read_stats(folder), data_files=data_files, name=name))
    return path


def read_stats(folder: Path) -> dict[str, Any]:
    """The statistics that a build wrote to ``folder``; empty if there are none."""
    path = folder / STATS
    if not path.is_file():
        return {}
    stats = read_json(path)
    if not isinstance(stats, dict):
        raise ValueError(f"{path} must be a JSON object, not {type(stats).__name__}")
    return stats


def card(pairs: Sequence[UGPair], stats: Mapping[str, Any], *, data_files: str, name: str) -> str:
    """The card's text. stats: as in stats.json; missing values are omitted. URLs and paths are never included."""
    numbers = pair_statistics(pairs)
    parts = [
        _front_matter(len(pairs), data_files, name),
        MARK,
        f"# {inline(name)}",
        f"{len(pairs):,} understanding-generation pairs ({_counts(numbers['kinds'])}) of "
        f"{numbers['distinct_images']:,} images, made by the PairUni method "
        "([arXiv:2510.25682](https://arxiv.org/abs/2510.25682)) with pairuni. Each pair asks a question about one "
        "image and gives a prompt for another that looks alike, or for the same.",
        _how(stats),
        "## Counts",
        _origins(pairs, numbers),
        _several(numbers["images_a_question"]),
        _tags(numbers["tags"]),
        "## Similarity of retrieved pairs",
        _similarity(numbers["retrieved_similarity"]),
        "## Fields",
        "`similarity` (cosine of the images' features; 1 where both sides are one image), `generate_ann` and "
        "`understand_ann`, each with `image_path`, `prompt`, `question`, `answer`, `tag`. A question that shows "
        "several images has the list `image_paths` in the place of `image_path`, and embedded images under `images`.",
        "## Licence",
        "Images and texts keep the licences of the data they come from.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(count: int, data_files: str, name: str) -> str:
    size = next((label for most, label in _SIZES if count < most), "100M<n<1B")
    return "\n".join(
        [
            "---",
            f"pretty_name: {json.dumps(name, ensure_ascii=False)}",
            "task_categories:\n- visual-question-answering\n- text-to-image",
            "tags:\n- pairug\n- pairuni",
            f"size_categories:\n- {size}",
            "configs:\n- config_name: default\n  data_files:\n  - split: train\n"
            f"    path: {json.dumps(data_files, ensure_ascii=False)}",
            "---",
        ]
    )


def _how(stats: Mapping[str, Any]) -> str:
    """How the pairs were made, from the build's statistics."""
    chosen = stats.get("settings") or {}
    build = stats.get("build") or {}
    spent = stats.get("completion") or {}
    requested = chosen.get("completion") or {}
    model = public_name(requested.get("model"))
    features = stats.get("features") or {}
    rows: list[tuple[str, Any]] = [
        ("encoder", public_name(chosen.get("encoder"))),
        ("its output taken as feature", features.get("pooling")),
        ("threshold", chosen.get("threshold")),
        ("K, clusters", build.get("clusters")),
        ("n, max matches", chosen.get("max_matches")),
        (
            "near pairs found, share on a sample",
            build["recall"] if build.get("compared", 1.0) < 1.0 else None,
        ),
        ("seed", chosen.get("seed")),
        ("annotator", chosen.get("annotator")),
        ("model", model),
        ("verified by", public_name(requested.get("verifier")) or model),
        ("prompts", spent.get("prompts")),
        *((name.replace("_", " "), value) for name, value in spent.items() if name != "prompts"),
        *((f"{name} (build)", build.get(name)) for name in ("samples", "quadruples", "dropped", "failed")),
    ]
    for corpus, reasons in (stats.get("left_out") or {}).items():
        rows += [(f"left out of {corpus}: {reason}", count) for reason, count in reasons.items()]
    known = [(name, value) for name, value in rows if value is not None]
    return "## How it was made\n\n" + table(("", ""), known) if known else ""


def public_name(name: Any) -> str | None:
    """A model's name; for a local folder, only the folder's own name."""
    if not isinstance(name, str) or not name:
        return None
    before, colon, place = name.rpartition(":")
    local = place.startswith(("/", ".", "~", "\\")) or Path(place).exists() or place.count("/") > 1
    return f"{before}{colon}{Path(place).name}" if local else name


def _origins(pairs: Sequence[UGPair], numbers: Mapping[str, Any]) -> str:
    files: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        for name, side in (("generation", pair.generate_ann), ("understanding", pair.understand_ann)):
            source = (side.model_extra or {}).get("source")
            files[name, source.partition(":")[0] if isinstance(source, str) else "unknown"] += 1
    rows = [(file, side, count) for (side, file), count in sorted(files.items(), key=_most)]
    return f"Aligned pairs by corpus: {_counts(numbers['aligned_origins']) or 'none'}.\n\n" + table(
        ("file", "side", "pairs"), _cut(rows)
    )


def _tags(tags: Mapping[str, Mapping[str, int]]) -> str:
    counted = {(tag, side): count for side, counts in tags.items() for tag, count in counts.items()}
    rows = [(tag or "(none)", side, count) for (tag, side), count in sorted(counted.items(), key=_most)]
    return table(("tag", "side", "pairs"), _cut(rows))


def _several(shown: Mapping[str, int]) -> str:
    several = {count: pairs for count, pairs in shown.items() if count != "1"}
    if not several:
        return ""
    counts = ", ".join(f"{pairs:,} show {count}" for count, pairs in several.items())
    return f"Questions with several images: {counts}."


def _similarity(similarity: Mapping[str, Any]) -> str:
    if similarity["mean"] is None:
        return "There are none."
    counts, edges = similarity["histogram"], similarity["edges"]
    used = [place for place, count in enumerate(counts) if count]
    lines = [
        f"{edges[place]:.2f} to {edges[place + 1]:.2f}  {counts[place]:>9,}  "
        + "#" * round(_BAR * counts[place] / max(counts))
        for place in range(used[0], used[-1] + 1)
    ]
    quantiles = ", ".join(f"{name}: {value:.3f}" for name, value in similarity["quantiles"].items())
    return "```text\n" + "\n".join(lines) + f"\n```\n\nMean {similarity['mean']:.3f}; quantiles {quantiles}."


def _most(item: tuple[tuple[str, str], int]) -> tuple[int, tuple[str, str]]:
    return -item[1], item[0]


def _cut(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    if len(rows) <= _TAGS:
        return rows
    rest = rows[_TAGS:]
    return [*rows[:_TAGS], (f"{len(rest):,} more", "both", sum(count for *_, count in rest))]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
