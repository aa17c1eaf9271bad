"""A run as one HTML page; pairs as a gallery."""

from pairuni.report.gallery import write_gallery
from pairuni.report.page import write_report

__all__ = ["write_gallery", "write_report"]
