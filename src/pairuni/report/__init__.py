"""A run as one HTML page, several compared on one; pairs as a gallery; the gradient agreement of data mixes."""

from pairuni.report.comparison import write_comparison
from pairuni.report.gallery import write_gallery
from pairuni.report.mixes import write_mixes
from pairuni.report.page import write_report

__all__ = ["write_comparison", "write_gallery", "write_mixes", "write_report"]
