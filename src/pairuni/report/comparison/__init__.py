"""Several runs on one self-contained page: curves, held-out scores, settings that differ, samples side by side."""

from pairuni.report.comparison.page import write_comparison

__all__ = ["write_comparison"]
