"""Readers of raw data, streamed: JSON Lines, JSON, CSV, tars, parquet, folders, hub data sets."""

from pairuni.pairug.sources.reading import Reading, read_generation, read_understanding

__all__ = ["Reading", "read_generation", "read_understanding"]
