"""rich's console for untrusted text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TextIO, cast

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from pairuni.console.terminal import underlying, visible


class Console(RichConsole):
    """Renders no markup and no emoji names, and only ``visible`` text."""

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **options)

    @property
    def file(self) -> Any:
        """The stream for rich's own control characters."""
        return underlying(cast(TextIO, super().file))

    @file.setter
    def file(self, new: Any) -> None:
        self._file = new

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
