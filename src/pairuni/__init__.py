"""Post-train unified vision-language models on understanding-generation pairs (arXiv:2510.25682)."""

__version__ = "0.1.0"
