"""A pair file, filtered and page by page, as HTML."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pairuni.console.counts import counted
from pairuni.pairug.dataset.store import check_pair_file, read_pairs
from pairuni.records import Annotation, UGPair
from pairuni.report.charts import histogram
from pairuni.report.images import image_tag, image_tags
from pairuni.report.markup import escape, placing_rules

PER_PAGE = 12
Kind = Literal["all", "aligned", "retrieved"]
ORDERS: Mapping[str, Callable[[tuple[int, UGPair]], float]] = {
    "original": lambda numbered: numbered[0],
    "most similar first": lambda numbered: -numbered[1].similarity,
    "least similar first": lambda numbered: numbered[1].similarity,
}


@dataclass(frozen=True)
class Found:
    """One page of the pairs that were searched for. page: from 1. tags: all that the file has."""

    summary: str
    cards: str
    page: int
    pages: int
    tags: tuple[str, ...]


class PairBrowser:
    """A .jsonl or .parquet file of pairs, read when it is first shown and again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._version: tuple[int, int] | None = None
        self._pairs: list[tuple[int, UGPair]] = []

    def find(
        self,
        *,
        words: str = "",
        kind: str = "all",
        tag: str = "",
        order: str = "original",
        page: int = 1,
    ) -> Found:
        """Pairs that contain all ``words`` in texts, tags or file names, of a kind, with ``tag`` on either side.

        page: is moved to the nearest one that exists. Raises ValueError for a file that is missing or has damaged
        pairs.
        """
        everything = self._read()
        wanted = words.casefold().split()
        chosen = [
            (number, pair)
            for number, pair in everything
            if kind in ("all", pair.kind)
            and (not tag or tag in (pair.understand_ann.tag, pair.generate_ann.tag))
            and all(word in text for text in [_text(pair)] for word in wanted)
        ]
        chosen.sort(key=ORDERS[order])
        pages = max(1, -(-len(chosen) // PER_PAGE))
        page = min(max(1, page), pages)
        shown = chosen[(page - 1) * PER_PAGE : page * PER_PAGE]
        cards = "".join(_card(self.path.parent, number, pair) for number, pair in shown)
        body = f'<ol class="pairs" start="{(page - 1) * PER_PAGE + 1}">{cards}</ol>' if shown else ""
        summary = _summary([pair for _, pair in chosen], len(everything))
        if 'class="image missing"' in body:
            command = f"pairuni pairs check {self.path}"
            summary += (
                '<p class="note">Some images were not found next to the file; '
                f"<code>{escape(command)}</code> names them. Images that are embedded in a parquet file are not shown; "
                "<code>pairuni pairs convert</code> extracts them.</p>"
            )
        tags = {tag for _, pair in everything for tag in (pair.understand_ann.tag, pair.generate_ann.tag)}
        return Found(summary, body, page, pages, tuple(sorted(tags - {""})))

    def _read(self) -> Sequence[tuple[int, UGPair]]:
        with self._lock:
            try:
                found = self.path.stat()
            except OSError as error:
                reason = (
                    "there is no such file yet" if isinstance(error, FileNotFoundError) else error.strerror
                )
                raise ValueError(f"{self.path}: {reason}; pairuni pairs build writes pair files") from None
            version = (found.st_mtime_ns, found.st_size)
            if version != self._version:
                check_pair_file(self.path)
                self._pairs = list(enumerate(read_pairs(self.path), start=1))
                self._version = version
            return self._pairs


def _text(pair: UGPair) -> str:
    return "\n".join(
        text
        for side in (pair.understand_ann, pair.generate_ann)
        for text in (side.prompt, side.question, side.answer, side.tag, *side.image_paths)
    ).casefold()


def _summary(pairs: Sequence[UGPair], total: int) -> str:
    retrieved = [pair.similarity for pair in pairs if pair.kind == "retrieved"]
    if not pairs:
        return f"<p>None of the {counted(total, 'pair')} is like that.</p>"
    of = "" if len(pairs) == total else f" of {total:,}"
    aligned = len(pairs) - len(retrieved)
    text = f"<p><b>{len(pairs):,}</b>{of} pairs: {aligned:,} aligned, {len(retrieved):,} retrieved</p>"
    if not retrieved:
        return text
    narrow = max(retrieved) - min(retrieved) < 0.3
    chart = histogram(
        retrieved, title="Similarity of retrieved pairs", width=0.02 if narrow else 0.05, unit="pairs"
    )
    return f"<style>{placing_rules(chart)}</style>{text}{chart}"


def _card(folder: Path, number: int, pair: UGPair) -> str:
    und, gen = pair.understand_ann, pair.generate_ann
    return (
        f'<li class="pair"><p class="tag">pair {number:,} · {pair.kind} · similarity {pair.similarity:.3f}</p>'
        f'<div class="two"><figure class="understanding">{image_tags(folder, und.image_paths, und.prompt)}'
        f"<figcaption><b>question</b> {escape(und.question)} <i>{escape(und.answer)}</i></figcaption></figure>"
        f'<figure class="generation">{image_tag(folder, gen.image_path, gen.prompt)}'
        f"<figcaption><b>prompt</b> {escape(gen.prompt)}</figcaption></figure></div>"
        f"<details><summary>all fields</summary>{_fields('understanding side', und)}"
        f"{_fields('generation side', gen)}</details></li>"
    )


def _fields(title: str, side: Annotation) -> str:
    rows = "".join(
        f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(_plain(value))}</dd>"
        for key, value in side.model_dump().items()
        if value not in (None, "")
    )
    return f"<h4>{title}</h4><dl>{rows}</dl>"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
