"""A run as one HTML page."""

from pairuni.report.page import write_report

__all__ = ["write_report"]
